"""What is noted of one request while it is served."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import HTTPConnection


@dataclass(slots=True)
class RequestRecord:
    """One request, as its access line and its errors tell of it."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    status: int | None = None
    """None until the response starts."""
    outcome: str | None = None
    """How it ended, where not well: an error's code, or what became of the client."""
    answer_id: str | None = None
    """Which answer it was about, once an engine has said so."""
    fallback_endpoint: str | None = None
    """Where the same can be asked without a stream; set by the routes that stream."""
    headers: dict[str, str] = field(default_factory=dict)
    """For the response, whatever it turns out to be."""
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Called when the request is over: gives back what was taken for it."""

    @classmethod
    def of(cls, request: HTTPConnection) -> RequestRecord:
        """Returns the request's record."""
        record: RequestRecord = request.scope["state"]["record"]
        return record

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the request came."""
        return round((time.perf_counter() - self.started) * 1000)

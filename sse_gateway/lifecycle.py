"""Where the gateway is between its start and its end, and how much it has in hand."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Lifecycle:
    """Shared by whoever runs the application, and the application."""

    draining: bool = False
    """Set at the first signal to stop."""
    requests: int = 0
    """How many are being served, probes left out."""
    ended: bool = False
    """Set when draining is over: what has not begun by then does not."""
    _arriving: set[asyncio.Timeout] = field(default_factory=set)

    @contextmanager
    def arriving(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Lets a request arrive until its deadline, or until draining is over, which is then its deadline."""
        self._arriving.add(deadline)
        try:
            yield
        finally:
            self._arriving.discard(deadline)

    def end(self) -> None:
        """Draining is over."""
        self.ended = True
        now = asyncio.get_running_loop().time()
        for deadline in self._arriving:
            deadline.reschedule(now)

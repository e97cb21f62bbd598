"""What the routes need of a request: the parts of the application, and what FastAPI makes of its headers.

As few dependencies as there are headers to document, and none that yields: each costs as much as a token does, and
one that yields keeps a stack of generators for as long as the answer streams; what is to be given back at a request's
end goes to its record. All coroutines: FastAPI runs plain functions in a thread.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import Depends, Header, Request

from sse_gateway.auth import Authenticator, BadTokenError, Caller
from sse_gateway.engine import EngineClient
from sse_gateway.lifecycle import Lifecycle
from sse_gateway.limits import StudentLimits
from sse_gateway.record import RequestRecord
from sse_gateway.settings import GatewaySettings
from sse_gateway.uploads import UploadMemory

RequestTimeout = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        le=3_600_000,
        description="How many milliseconds the client has for all of it, from the first byte of its request. An answer "
        "that takes longer ends with DEADLINE_EXCEEDED, and the model is stopped.",
    ),
]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of."""

    settings: GatewaySettings
    engine: EngineClient
    lifecycle: Lifecycle
    uploads: UploadMemory
    authenticator: Authenticator | None
    """None where no tokens are asked for."""
    limits: StudentLimits

    @classmethod
    def of(cls, request: Request) -> Self:
        """Returns those of the application that serves a request."""
        parts: Self = request.app.state.parts
        return parts


async def _caller(request: Request) -> Caller:
    authenticator = Parts.of(request).authenticator
    if authenticator is None:
        return Caller()
    try:
        return await authenticator.caller(request.headers.getlist("authorization"))
    except BadTokenError as error:
        RequestRecord.of(request).headers["WWW-Authenticate"] = error.challenge
        raise


Asker = Annotated[Caller, Depends(_caller)]


async def _deadline(request: Request, timeout_ms: RequestTimeout = None) -> float | None:
    """Returns when the client has no more use for an answer, in the loop's time; None, if it did not say."""
    if timeout_ms is None:
        return None
    return asyncio.get_running_loop().time() + (timeout_ms - RequestRecord.of(request).elapsed_ms) / 1000


Deadline = Annotated[float | None, Depends(_deadline)]

"""What the routes need of a request: the parts of the application, who asks, and until when.

Called, where each token counts, and not injected by FastAPI: that would cost as much as several tokens do, and what
yields would keep a stack of generators for as long as the answer streams. What is to be given back at a request's end
goes to its record.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

from fastapi import Request

from sse_gateway.auth import Authenticator, BadTokenError, Caller
from sse_gateway.engine import EngineClient
from sse_gateway.headers import REQUEST_TIMEOUT_MS
from sse_gateway.lifecycle import Lifecycle
from sse_gateway.limits import StudentLimits
from sse_gateway.record import RequestRecord
from sse_gateway.settings import GatewaySettings
from sse_gateway.uploads import UploadMemory


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


async def caller(request: Request) -> Caller:
    """Returns who asks.

    Raises:
        GatewayError: UNAUTHENTICATED or AUTH_UNAVAILABLE.
    """
    authenticator = Parts.of(request).authenticator
    if authenticator is None:
        return Caller()
    try:
        return await authenticator.caller(request.headers.getlist("authorization"))
    except BadTokenError as error:
        RequestRecord.of(request).headers["WWW-Authenticate"] = error.challenge
        raise


def deadline(request: Request) -> float | None:
    """Returns when the client has no more use for an answer, in the loop's time; None, if it did not say.

    Raises:
        RequestValidationError: What it says is not a time.
    """
    timeout_ms = REQUEST_TIMEOUT_MS.read(request)
    if timeout_ms is None:
        return None
    return asyncio.get_running_loop().time() + (timeout_ms - RequestRecord.of(request).elapsed_ms) / 1000

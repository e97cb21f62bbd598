"""What the routes ask FastAPI for: the parts of the application, and the request's record.

All coroutines: FastAPI runs plain functions in a thread.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from sse_gateway.auth import Authenticator, BadTokenError, Caller
from sse_gateway.engine import EngineClient
from sse_gateway.lifecycle import Lifecycle
from sse_gateway.limits import StudentLimits, Turn
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


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _record(request: Request) -> RequestRecord:
    return RequestRecord.of(request)


AppParts = Annotated[Parts, Depends(_parts)]
Record = Annotated[RequestRecord, Depends(_record)]


async def _caller(request: Request, parts: AppParts, record: Record) -> Caller:
    if parts.authenticator is None:
        return Caller()
    try:
        return await parts.authenticator.caller(request.headers.getlist("authorization"))
    except BadTokenError as error:
        record.headers["WWW-Authenticate"] = error.challenge
        raise


Asker = Annotated[Caller, Depends(_caller)]


async def _turn(parts: AppParts, asker: Asker, record: Record) -> AsyncIterator[Turn]:
    with Turn(parts.limits, record.headers) as turn:
        if asker.student_id is not None:
            # Before the body is read. Without a token only the body says who asks.
            await turn.take(asker.student_id)
        yield turn


AskersTurn = Annotated[Turn, Depends(_turn)]


async def _deadline(record: Record, timeout_ms: RequestTimeout = None) -> float | None:
    """Returns when the client has no more use for an answer, in the loop's time; None, if it did not say."""
    if timeout_ms is None:
        return None
    return asyncio.get_running_loop().time() + (timeout_ms - record.elapsed_ms) / 1000


Deadline = Annotated[float | None, Depends(_deadline)]

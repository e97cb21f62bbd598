"""What the routes ask FastAPI for: the parts of the application, and the request's record.

All coroutines: FastAPI runs plain functions in a thread.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from sse_gateway.engine import EngineClient
from sse_gateway.record import RequestRecord
from sse_gateway.settings import GatewaySettings


@dataclass(slots=True)
class Lifecycle:
    """Where the gateway is between its start and its end."""

    draining: bool = False
    """Set at the first signal to stop."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of."""

    settings: GatewaySettings
    engine: EngineClient
    lifecycle: Lifecycle


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _record(request: Request) -> RequestRecord:
    return RequestRecord.of(request)


AppParts = Annotated[Parts, Depends(_parts)]
Record = Annotated[RequestRecord, Depends(_record)]

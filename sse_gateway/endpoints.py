"""The endpoints of the engine, and which of them to ask next.

gRPC balances what one name resolves to; several names are several channels, taken in turn, since no gRPC resolver
takes a list of names and TLS has to check each name for itself.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Self

import grpc
import structlog

from sse_gateway.channel import connect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from sse_gateway.channel import Endpoint, EngineAccess
    from sse_gateway.engine_url import EngineTarget

log = structlog.get_logger(__name__)

_HEALTH_SECONDS = 1.0
"""Between two health checks, and how long one may take."""
_FILES_SECONDS = 2.0
"""Between two looks at the files for TLS."""
_RELUCTANCE = {
    grpc.ChannelConnectivity.READY: 0,
    grpc.ChannelConnectivity.IDLE: 1,
    grpc.ChannelConnectivity.CONNECTING: 1,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: 2,
    grpc.ChannelConnectivity.SHUTDOWN: 3,
}
"""Where a call should rather not go: lower first."""


class Endpoints:
    """All of them. To be entered in the loop they are used in.

    Args:
        targets: Where they are, at least one.
        access: How to be let in there.
    """

    def __init__(self, targets: Sequence[EngineTarget], access: EngineAccess) -> None:
        self._targets = targets
        self._access = access
        self._endpoints: list[Endpoint] = []
        self._turn = itertools.count()
        self._unwell: set[grpc.aio.Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._files = access.stamp()

    async def __aenter__(self) -> Self:
        self._endpoints = [connect(target, self._access) for target in self._targets]
        if len(self._endpoints) > 1:
            self._tasks.add(asyncio.create_task(self._check_health()))
        if self._files:
            self._tasks.add(asyncio.create_task(self._follow_files()))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(endpoint.channel.close() for endpoint in self._endpoints))

    def in_turn(self) -> list[Endpoint]:
        """Returns them in the order in which to ask: in turn, but the healthy before the others, then the connected."""
        start = next(self._turn) % len(self._endpoints)
        return sorted(self._endpoints[start:] + self._endpoints[:start], key=self._reluctance)

    async def serving(self, within: float) -> bool:
        """Tells whether any engine says of itself, within so many seconds, that it is serving."""
        return any(await asyncio.gather(*(endpoint.serving(within) for endpoint in self._endpoints)))

    async def _check_health(self) -> None:
        """Asks each engine for its health now and then: one may be connected, and frozen or draining all the same."""
        while True:
            endpoints = self._endpoints  # others, where files are new, by the time that these have said
            serving = await asyncio.gather(*(endpoint.serving(_HEALTH_SECONDS) for endpoint in endpoints))
            self._unwell = {endpoint.channel for endpoint, well in zip(endpoints, serving, strict=True) if not well}
            await asyncio.sleep(_HEALTH_SECONDS)

    async def _follow_files(self) -> None:
        """Connects anew with new files: gRPC's client, unlike its server, does not read any again."""
        while True:
            await asyncio.sleep(_FILES_SECONDS)
            stamp = self._access.stamp()
            if stamp != self._files:
                self._files = stamp
                self._connect_anew()

    def _connect_anew(self) -> None:
        try:
            endpoints = [connect(target, self._access) for target in self._targets]
        except OSError:
            log.warning("new TLS files cannot be used, the former stay in use")
            return
        # The calls that run hold the former; the last to end lets gRPC close them.
        self._endpoints = endpoints
        log.info("TLS files renewed")

    def _reluctance(self, endpoint: Endpoint) -> tuple[bool, int]:
        return endpoint.channel in self._unwell, _RELUCTANCE[endpoint.channel.get_state(try_to_connect=True)]

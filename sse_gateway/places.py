"""The places where the engine is, and which of them to ask next.

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

    from sse_gateway.channel import EngineAccess, Place
    from sse_gateway.engine_url import EngineTarget

log = structlog.get_logger(__name__)

_HEALTH_SECONDS = 1.0
"""Between two health checks, and how long one may take."""
_FILES_SECONDS = 2.0
"""Between two looks at the files for TLS."""
_FULL_SECONDS = 0.1
"""How long an engine's word that it is full is taken for true: answers end all the time."""
_RELUCTANCE = {
    grpc.ChannelConnectivity.READY: 0,
    grpc.ChannelConnectivity.IDLE: 1,
    grpc.ChannelConnectivity.CONNECTING: 1,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: 2,
    grpc.ChannelConnectivity.SHUTDOWN: 3,
}
"""Where a call should rather not go: lower first."""


class Places:
    """All of them. To be entered in the loop they are used in.

    Args:
        targets: Where they are, at least one.
        access: How to be let in there.
    """

    def __init__(self, targets: Sequence[EngineTarget], access: EngineAccess) -> None:
        self._targets = targets
        self._access = access
        self._places: list[Place] = []
        self._turn = itertools.count()
        self._unwell: set[grpc.aio.Channel] = set()
        self._full_until: dict[grpc.aio.Channel, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._files = access.stamp()

    async def __aenter__(self) -> Self:
        self._places = [connect(target, self._access) for target in self._targets]
        if len(self._places) > 1:
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
        await asyncio.gather(*(place.channel.close() for place in self._places))

    def in_turn(self) -> list[Place]:
        """Returns them in the order in which to ask: in turn, but the healthy before the others, then the connected."""
        start = next(self._turn) % len(self._places)
        return sorted(self._places[start:] + self._places[:start], key=self._reluctance)

    def note_full(self, place: Place) -> None:
        """Takes in that an engine has just refused a question because it is full."""
        self._full_until[place.channel] = asyncio.get_running_loop().time() + _FULL_SECONDS

    @property
    def full(self) -> bool:
        """Whether every engine has just refused a question because it is full."""
        now = asyncio.get_running_loop().time()
        told = [self._full_until.get(place.channel, 0) for place in self._places]
        return bool(told) and min(told) > now

    async def serving(self, within: float) -> bool:
        """Tells whether any engine says of itself, within so many seconds, that it is serving."""
        return any(await asyncio.gather(*(place.serving(within) for place in self._places)))

    async def _check_health(self) -> None:
        """Asks each engine for its health now and then: one may be connected, and frozen or draining all the same."""
        while True:
            serving = await asyncio.gather(*(place.serving(_HEALTH_SECONDS) for place in self._places))
            self._unwell = {place.channel for place, well in zip(self._places, serving, strict=True) if not well}
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
            places = [connect(target, self._access) for target in self._targets]
        except OSError:
            log.warning("new TLS files cannot be used, the former stay in use")
            return
        # The calls that run hold the former; the last to end lets gRPC close them.
        self._places = places
        self._full_until.clear()
        log.info("TLS files renewed")

    def _reluctance(self, place: Place) -> tuple[bool, int]:
        return place.channel in self._unwell, _RELUCTANCE[place.channel.get_state(try_to_connect=True)]

"""The one writer of server-sent events, as pure ASGI.

One loop waits for one thing: that something wakes it, which is growth or a silence as long as a heartbeat. Woken, it
writes everything the client has not seen as one write. So what comes alone leaves alone and at once, a client that is
slow gets fewer and larger events, and nothing is queued for it. The client's leaving cancels the loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from starlette.responses import Response

from sse_gateway.disconnect import while_connected
from sse_gateway.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

_HEARTBEAT = b": keep-alive\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Accept-Encoding"),
]
_LAST_WORDS_SECONDS = 1.0
"""For the source to see its own end after the last event, so that it need not be cut off."""


class EventSource(Protocol):
    """Grows by itself while it runs, and keeps what has not been taken."""

    async def run(self, grew: Callable[[], None]) -> None:
        """Runs until there is nothing more to come, and calls `grew` whenever there is something to take.

        What it raises before that is the response's: an HTTP status. After that it raises nothing: it grows by a last
        event that tells of the failure.
        """

    def take(self) -> bytes:
        """Returns everything not taken yet, as whole events; nothing if there is nothing new."""

    @property
    def ended(self) -> bool:
        """Whether the last event was taken."""


class EventStreamResponse(Response):
    """Runs a source and streams its events; 200 only if there is a first one.

    Args:
        source: Where the events come from.
        heartbeat_seconds: A stream in which nothing happens gets a comment this often.
    """

    def __init__(self, source: EventSource, *, heartbeat_seconds: float) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_HEADERS)
        self._source = source
        self._heartbeat_seconds = heartbeat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Streams to the end; see the ASGI specification.

        Raises:
            ClientGoneError: The client left.
            Exception: What the source raised before its first event.
        """
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[bool] = self._loop.create_future()
        self._silence = Watch(self._heartbeat_seconds, lambda: self._wake(silent=True))
        running = asyncio.create_task(self._source.run(self._wake))
        running.add_done_callback(lambda _: self._wake())
        try:
            async with while_connected(receive):
                await self._woken
                if running.done():
                    running.result()
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._write(send)
            await asyncio.wait({running}, timeout=_LAST_WORDS_SECONDS)
        finally:
            self._silence.stop()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        while not self._source.ended:
            frames = await self._frames()
            more = not self._source.ended
            self._silence.since = self._loop.time()
            await send({"type": "http.response.body", "body": frames, "more_body": more})

    async def _frames(self) -> bytes:
        """Waits until there is something to write, and returns all of it."""
        while not (frames := self._source.take()):
            self._woken = self._loop.create_future()
            if await self._woken:
                return _HEARTBEAT
        return frames

    def _wake(self, *, silent: bool = False) -> None:
        if not self._woken.done():
            self._woken.set_result(silent)

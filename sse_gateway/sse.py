"""The one writer of server-sent events, as pure ASGI.

What comes alone leaves alone and at once: whoever brings it writes it, as long as the client takes it. While a client
does not, what comes is kept with what it has not seen, and leaves as one write when it takes again; so a slow client
gets fewer and larger events, and nothing is queued for it. A silence as long as a heartbeat is filled with a comment.
The client's leaving ends it all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from starlette.responses import Response

from sse_gateway.compression import encoder, negotiated
from sse_gateway.disconnect import Client, while_connected
from sse_gateway.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from sse_gateway.compression import Encoder

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

    async def run(self, grew: Callable[[], Awaitable[None]]) -> None:
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

    In the scope's state is the `client`, whose leaving ends it. Once the head is sent, the stream goes to `hand_over`,
    which `RequestBoundary` put there, to be run when the framework has returned: its calls would be kept for as long
    as it streams, and gone through for each token.

    Args:
        source: Where the events come from.
        heartbeat_seconds: A stream in which nothing happens gets a comment this often.
        accept_encoding: The client's header; empty: the stream is not compressed.
    """

    def __init__(self, source: EventSource, *, heartbeat_seconds: float, accept_encoding: str = "") -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_HEADERS)
        coding = negotiated(accept_encoding)
        if coding:
            self.raw_headers.append((b"content-encoding", coding.encode()))
        self._stream = EventStream(source, heartbeat_seconds, encoder(coding) if coding else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits for the first event, sends the head and hands the stream over; see the ASGI specification.

        Raises:
            ClientGoneError: The client left.
            Exception: What the source raised before its first event.
        """
        stream, client = self._stream, Client.of(scope)
        try:
            async with while_connected(client):
                await stream.begin(client)
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:  # cancelled, too, nothing is to run on
            await stream.aclose()
            raise
        scope["state"]["hand_over"](stream)


class EventStream:
    """A source whose events are being streamed.

    Args:
        source: Where they come from.
        heartbeat_seconds: See `EventStreamResponse`.
        encoder: Compresses them.
    """

    __slots__ = (
        "_client",
        "_encoder",
        "_failure",
        "_heartbeat_seconds",
        "_loop",
        "_running",
        "_send",
        "_silence",
        "_source",
        "_woken",
        "_writing",
    )

    def __init__(self, source: EventSource, heartbeat_seconds: float, encoder: Encoder | None) -> None:
        self._source = source
        self._heartbeat_seconds = heartbeat_seconds
        self._encoder = encoder
        self._writing = True
        """Whether somebody is, or what comes first is still to be written."""
        self._failure: Exception | None = None
        self._running: asyncio.Task[None] | None = None

    async def begin(self, client: Client) -> None:
        """Runs the source, and waits for its first event.

        Raises:
            Exception: What the source raised before it.
        """
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._woken: asyncio.Future[bool] = self._loop.create_future()
        self._running = asyncio.create_task(self._source.run(self._grew))
        self._running.add_done_callback(self._wake)
        await self._woken
        if self._running.done():
            self._running.result()

    async def run(self, send: Send) -> None:
        """Streams to the end, the head being written.

        Raises:
            ClientGoneError: The client left.
        """
        assert self._running
        self._send = send
        silence = self._silence = Watch(self._heartbeat_seconds, self._wake_in_silence)
        try:
            async with while_connected(self._client):
                await self._write_to_the_end()
            await asyncio.wait({self._running}, timeout=_LAST_WORDS_SECONDS)
        finally:
            silence.stop()
            await self.aclose()

    async def aclose(self) -> None:
        """Ends the source, if it has not ended. Once is enough, more does no harm."""
        running, self._running = self._running, None
        if running:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _write_to_the_end(self) -> None:
        """Writes what is left to be written: at first, after a pause, in a silence, at the end."""
        # Where nothing is new yet, the head leaves alone.
        await self._write_frames(self._source.take())
        await self._write()
        while not self._source.ended:
            self._woken = self._loop.create_future()
            silent = await self._woken
            if self._failure:
                raise self._failure
            if not self._writing:
                await self._write(_HEARTBEAT if silent else b"")

    async def _grew(self) -> None:
        """Writes what is new, unless the client or another writer is to be waited for."""
        if self._writing or self._client.paused:
            self._wake()
            return
        try:
            await self._write()
        except Exception as error:  # noqa: BLE001 - the response's failure, and none of who brought something to write
            self._failure = error
            self._wake()

    async def _write(self, frames: bytes = b"") -> None:
        """Writes `frames` and everything not taken yet."""
        self._writing = True
        while not self._source.ended and (frames := frames or self._source.take()):
            await self._write_frames(frames)
            frames = b""
        self._writing = False

    async def _write_frames(self, frames: bytes) -> None:
        self._silence.since = self._loop.time()
        last = self._source.ended
        if last:
            self._wake()
        if self._encoder:
            frames = self._encoder.encode(frames, last=last)
        await self._send({"type": "http.response.body", "body": frames, "more_body": not last})

    def _wake(self, _ended: object = None) -> None:
        if not self._woken.done():
            self._woken.set_result(False)

    def _wake_in_silence(self) -> None:
        if not self._woken.done():
            self._woken.set_result(True)

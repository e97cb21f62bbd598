"""The model's server for many thousands of questions: no scripts, no tasks, one write for each thing that it says.

A question begins with how it is to be answered: `short`, or one of the ways to keep a client waiting.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from tests.upstream import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TEXT = "Hello there."


def _chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


_HELLO = _HEAD + _chunked(events.role_event() + events.content_event("Hello"))
_REST = events.content_event(" there.") + events.finish_event() + events.usage_event(30, 20) + events.DONE
ANSWERS = {
    b"short": _HELLO + _chunked(_REST) + b"0\r\n\r\n",
    b"no headers": b"",
    b"no token": _HEAD,
    b"no end": _HELLO,
}
"""What is said to a question that begins so."""


class Model:
    """What a test asks of the server."""

    def __init__(self) -> None:
        self.base_url = ""
        self.asked = 0
        self.open: set[asyncio.Transport] = set()
        self.busy: set[asyncio.Transport] = set()
        """Those on which an answer has not ended."""
        self.left: dict[bytes, asyncio.Future[float]] = {}
        """For a question that a test waits for: when its connection was closed, in the loop's time."""
        self.arrived: dict[bytes, asyncio.Future[None]] = {}

    def hang_up(self) -> None:
        """Closes the connections that the engine keeps for the next questions."""
        for transport in self.open - self.busy:
            transport.close()

    def expect(self, prompt: str) -> tuple[asyncio.Future[None], asyncio.Future[float]]:
        """The arrival of a question, and the closing of its connection by the engine."""
        loop = asyncio.get_running_loop()
        name = prompt.encode()
        self.arrived[name], self.left[name] = loop.create_future(), loop.create_future()
        return self.arrived[name], self.left[name]


class _Connection(asyncio.Protocol):
    """One connection of the engine's."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._received = b""
        self._asks = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._model.open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._model.open.discard(self._transport)
        self._model.busy.discard(self._transport)
        left = self._model.left.pop(self._asks, None)
        if left and not left.done():
            left.set_result(asyncio.get_running_loop().time())

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            self._received = b""
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        """The student's words come last but the picture, and say how to answer."""
        self._model.asked += 1
        way, self._asks = next(
            (way, body[body.rindex(way + b":") :].split(b'"')[0]) for way in ANSWERS if way + b":" in body
        )
        arrived = self._model.arrived.pop(self._asks, None)
        if arrived and not arrived.done():
            arrived.set_result(None)
        if way != b"short":
            self._model.busy.add(self._transport)
        if ANSWERS[way]:
            self._transport.write(ANSWERS[way])


@asynccontextmanager
async def running_model() -> AsyncIterator[Model]:
    """Runs the server in this loop."""
    model = Model()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(model), "127.0.0.1", 0, backlog=1024)
    model.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield model
    finally:
        server.close()
        for transport in list(model.open):
            transport.abort()
        await server.wait_closed()

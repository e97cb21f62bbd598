"""A cheap load client: raw sockets, one connection for each stream, every answer checked to its last character."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import brotli
import zstandard

from bench.text import FIRST, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LAST_CHUNK = b"0\r\n\r\n"
_NO_KEY = b"0" * 32
_DECODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: zlib.decompress(body, 31),
    "br": brotli.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


class WrongAnswerError(Exception):
    """A stream did not hold the answer that the upstream gave."""


@dataclass(slots=True, kw_only=True)
class Asking:
    """What to ask, where and how."""

    ports: tuple[int, ...]
    """Taken in turn."""
    path: str
    openai: bool
    """Whether the path speaks OpenAI's wire, and not this service's."""
    tokens: int
    rate: float
    """Tokens a second; 0: no delay."""
    image: bytes
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    """More members of the body."""
    keyed: bool = False
    """Whether each request has an idempotency key."""

    def requests(self) -> Iterator[bytes]:
        """Yields one request's bytes after the other."""
        request = self._request()
        while True:
            yield request.replace(_NO_KEY, uuid.uuid4().hex.encode()) if self.keyed else request

    def _request(self) -> bytes:
        body = json.dumps(self._openai_body() if self.openai else self._body()).encode()
        head = {"Host": "localhost", "Content-Type": "application/json", "Accept": "text/event-stream"}
        head |= {"Content-Length": str(len(body)), "Connection": "close"} | self.headers
        if self.keyed:
            head["Idempotency-Key"] = _NO_KEY.decode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    def _body(self) -> dict[str, Any]:
        return {"base64_image": base64.b64encode(self.image).decode(), "prompt": self._prompt(), **self.fields}

    def _openai_body(self) -> dict[str, Any]:
        url = f"data:image/jpeg;base64,{base64.b64encode(self.image).decode()}"
        content = [
            {"type": "text", "text": self._prompt()},
            {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
        ]
        messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": content}]
        options = {"model": "bench", "stream": True, "stream_options": {"include_usage": True}}
        return options | {"messages": messages}

    def _prompt(self) -> str:
        return f"tokens={self.tokens} rate={self.rate:g}"


@dataclass(slots=True)
class Stream:
    """What came of one request. Times are in seconds since it was sent."""

    first_token: float = 0
    total: float = 0
    events: int = 0
    """Events that brought text."""
    body_bytes: int = 0
    """Of the response's body as it came, its chunks' framing included."""
    fault: str = ""


class Client(asyncio.Protocol):
    """One connection: asks, keeps what comes, and is done when the response is."""

    def __init__(self, request: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._began = time.perf_counter()
        self._pieces: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.stream = Stream()
        self.first = self._loop.create_future()
        self.done = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def cut(self) -> None:
        """Leaves."""
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        if not self.stream.first_token and FIRST.encode() in data:
            self.stream.first_token = time.perf_counter() - self._began
            self.first.set_result(None)
        if data.endswith(_LAST_CHUNK):
            self.stream.total = time.perf_counter() - self._began
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.first.done():
            self.first.set_result(None)
        self.done.set_result(None)

    def check(self, asking: Asking) -> Stream:
        """Returns what came of it, the answer compared with the upstream's."""
        try:
            self._check(b"".join(self._pieces), asking)
        except (WrongAnswerError, ValueError, KeyError, IndexError) as error:
            self.stream.fault = f"{type(error).__name__}: {error}"
        self._pieces = []
        return self.stream

    def _check(self, response: bytes, asking: Asking) -> None:
        head, _, chunks = response.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise WrongAnswerError(head[:30].decode("latin-1") or "no response")
        self.stream.body_bytes = len(chunks)
        body = _joined(chunks)
        for name, decode in _DECODE.items():
            if f"content-encoding: {name}".encode() in head.lower():
                body = decode(body)
        events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
        deltas = [delta for event in events if (delta := _delta(event, openai=asking.openai))]
        self.stream.events = len(deltas)
        if "".join(deltas) != text(asking.tokens):
            raise WrongAnswerError(f"{len(deltas)} deltas, another text")
        if not asking.openai and events[-1]["type"] != "end":
            raise WrongAnswerError("no end")


def _joined(chunks: bytes) -> bytes:
    """A chunked body as one (RFC 9112, section 7.1)."""
    pieces: list[bytes] = []
    at = 0
    while True:
        end = chunks.index(b"\r\n", at)
        size = int(chunks[at:end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(chunks[end + 2 : end + 2 + size])
        at = end + 4 + size


def _delta(event: dict[str, Any], *, openai: bool) -> str:
    if openai:
        return str(event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""
    return str(event["delta"]) if event["type"] == "content" else ""


class Load:
    """Streams that run at the same time.

    Args:
        asking: What each asks.
        streams: How many.
        spread: Seconds over which they begin, evenly.
        deadline: Seconds after which those that are not done are cut, and count as failed.
    """

    def __init__(self, asking: Asking, streams: int, spread: float = 0, deadline: float = 60) -> None:
        self._asking = asking
        self._count = streams
        self._spread = spread
        self._deadline = deadline
        self._clients: list[Client] = []

    async def open(self) -> None:
        """Begins all of them and returns when each has its first token, or has none to expect."""
        loop = asyncio.get_running_loop()
        requests, began = self._asking.requests(), loop.time()
        for number in range(self._count):
            await asyncio.sleep(max(0, began + number * self._spread / self._count - loop.time()))
            self._clients.append(Client(next(requests)))
            await _connect(self._clients[-1], self._asking.ports[number % len(self._asking.ports)])
        await asyncio.wait([client.first for client in self._clients], timeout=self._deadline)

    async def finish(self) -> list[Stream]:
        """Waits for the ends and returns what came of each."""
        done = [client.done for client in self._clients]
        _, late = await asyncio.wait(done, timeout=self._deadline)
        if late:
            self.cut()
            await asyncio.wait(done)
        return [client.check(self._asking) for client in self._clients]

    def cut(self) -> None:
        """Leaves all streams."""
        for client in self._clients:
            client.cut()


async def _connect(client: Client, port: int) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
    except OSError as error:
        client.connection_lost(error)


async def run(asking: Asking, streams: int, spread: float = 0, deadline: float = 60) -> list[Stream]:
    """Runs streams at the same time and returns what came of each."""
    load = Load(asking, streams, spread, deadline)
    await load.open()
    return await load.finish()

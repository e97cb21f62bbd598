"""A client on a bare socket: what it has read is what was on the wire, and nothing reads ahead for it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

STREAM = "/api/ai/chat-image-stream"
FALLBACK = "/api/ai/chat-image"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PATIENCE = 5.0


def question(**members: Any) -> dict[str, Any]:
    """A good request body, but for these members."""
    return {"base64_image": base64.b64encode(PICTURE).decode(), "prompt": "What is this?", **members}


@dataclass
class Connection:
    """One connection and the response on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    decode: Callable[[bytes], bytes] = bytes
    """Undoes the content coding of one chunk."""
    _body: bytearray = field(default_factory=bytearray)

    async def send(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> None:
        """Writes a whole request; header names with `_` for `-`."""
        await self.send_head(method, path, content_length=str(len(body)), **headers)
        self.writer.write(body)
        await self.writer.drain()

    async def send_head(self, method: str, path: str, **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: gateway", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def read_head(self) -> None:
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")[:-2]
        self.status = int(status_line.split(" ")[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)
        self._body.clear()

    async def read_event(self) -> bytes:
        """Returns the next event or comment, as its bytes. Fails at the stream's end."""
        async with asyncio.timeout(PATIENCE):
            while b"\n\n" not in self._body:
                chunk = await self._chunk()
                assert chunk, f"the stream ended after {bytes(self._body)!r}"
                self._body += self.decode(chunk)
        event, _, rest = self._body.partition(b"\n\n")
        self._body = bytearray(rest)
        return bytes(event) + b"\n\n"

    async def read_body(self) -> bytes:
        """Returns the rest of the body, to its end."""
        async with asyncio.timeout(PATIENCE):
            if "content-length" in self.headers:
                return await self.reader.readexactly(int(self.headers["content-length"]))
            while chunk := await self._chunk():
                self._body += self.decode(chunk)
        return bytes(self._body)

    async def read_json(self) -> Any:
        return json.loads(await self.read_body())

    async def _chunk(self) -> bytes:
        """Reads one chunk of chunked transfer coding; the last is empty."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    @property
    def received(self) -> bytes:
        """What was read of the body and not handed out."""
        return bytes(self._body)

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connect(port: int, receive_buffer: int | None = None) -> AsyncIterator[Connection]:
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def event_data(event: bytes) -> Any:
    """What is in an event's `data:` line."""
    (line,) = [line for line in event.decode("ascii").split("\n") if line.startswith("data: ")]
    return json.loads(line.removeprefix("data: "))


def events_in(stream: bytes) -> list[Any]:
    """What is in a stream's events; comments skipped."""
    assert stream.endswith(b"\n\n")
    return [event_data(event) for event in stream.split(b"\n\n")[:-1] if not event.startswith(b":")]


def encoded(body: Any) -> bytes:
    """A body to send: bytes as they are, anything else as JSON."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


async def refusal(client: Connection) -> tuple[int, str]:
    """Reads an error reply; returns its status and its code."""
    await client.read_head()
    return client.status, (await client.read_json())["code"]

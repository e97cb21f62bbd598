"""A client that costs next to nothing: one question on one connection, the bytes that came, and how it ended.

It does not read events as it goes, but looks at what arrived when all has: for tests of many thousands.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

STREAM, FALLBACK = "/api/ai/chat-image-stream", "/api/ai/chat-image"
ROUTES = (STREAM, FALLBACK)
PATIENCE_SECONDS = 30.0
_LINGER = struct.pack("ii", 1, 0)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PICTURE = b"".join(
    (
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(b"\0\0")),
        _chunk(b"IEND", b""),
    )
)
"""The smallest that is one."""
_IMAGE = base64.b64encode(PICTURE).decode()


def request(prompt: str, route: str = STREAM, **headers: str) -> bytes:
    """A whole request, after which the connection ends."""
    payload = json.dumps({"base64_image": _IMAGE, "prompt": prompt}).encode()
    lines = [f"POST {route} HTTP/1.1", "Host: x", "Content-Type: application/json", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(payload)}", "", ""]).encode() + payload


@dataclass(frozen=True)
class Reply:
    """What came."""

    status: int
    ending: dict[str, Any] | None
    """The last event if it is a terminal one, or the JSON of a whole reply; None where the stream was cut."""
    retry_after: float = 0
    """Seconds, of the header."""

    @property
    def text(self) -> str | None:
        """The whole answer; None where there is none."""
        ending = self.ending or {}
        return ending.get("response") if ending.get("success") else ending.get("content")

    @property
    def code(self) -> str:
        return str((self.ending or {}).get("code", ""))


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def reply(self) -> Reply:
        """Reads everything to the end of the connection."""
        raw = b""
        try:
            with suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    raw = await self.reader.read(-1)
        finally:
            self.writer.close()
        return parsed(raw)

    def leave(self, chance: random.Random) -> None:
        """Leaves by FIN or by RST."""
        if chance.random() < 0.5:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            self.writer.transport.abort()
        else:
            self.writer.close()


async def ask(port: int, asked: bytes) -> Reply:
    """Asks, and reads to the end."""
    caller = await Caller.connect(port)
    caller.writer.write(asked)
    return await caller.reply()


def parsed(raw: bytes) -> Reply:
    """Returns what a whole response says; one that was cut in its framing has no ending."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if not head:
        return Reply(0, None)
    status = int(head.split(b" ", 2)[1])
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        found = re.search(rb"\r\nretry-after: (\d+)\r\n", head + b"\r\n", re.IGNORECASE)
        return Reply(status, json.loads(body) if body else None, float(found[1]) if found else 0)
    if not body.endswith(b"\r\n0\r\n\r\n"):
        return Reply(status, None)
    last = json.loads(body.rsplit(b"\ndata: ", 1)[1].split(b"\n", 1)[0])
    assert last["type"] in ("end", "error"), "a stream ended without an ending"
    return Reply(status, last)

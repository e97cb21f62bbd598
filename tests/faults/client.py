"""A student's client on a bare socket: it notes all that it is told, and leaves in every way that a client can."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.end_to_end.conftest import body

if TYPE_CHECKING:
    from tests.faults.network import Cable

STREAM, FALLBACK = "/api/ai/chat-image-stream", "/api/ai/chat-image"
PATIENCE_SECONDS = 10.0
_CUTS = (asyncio.IncompleteReadError, ConnectionError, TimeoutError)
_TERMINAL = {"end", "error"}


@dataclass
class Told:
    """What a client was told, on however many connections."""

    status: int = 0
    """0: nothing."""
    events: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    """The JSON of a response that is no stream."""
    whole: bool = False
    """Whether the last response came to the end that HTTP gives it: if not, the client sees that it was cut."""

    @property
    def text(self) -> str:
        return "".join(event["delta"] for event in self.events if event["type"] == "content")

    @property
    def ending(self) -> dict[str, Any] | None:
        """The terminal event, or what stands for one on the route that does not stream."""
        terminal = [event for event in self.events if event["type"] in _TERMINAL]
        return self.reply or (terminal[0] if terminal else None)

    @property
    def code(self) -> str:
        """The failure's; empty where there was none."""
        return str((self.ending or {}).get("code", ""))


def _members(body: bytes) -> dict[str, Any]:
    """A reply's members; what is no JSON is kept to be seen, and has none that a client could use."""
    try:
        members: dict[str, Any] = json.loads(body) if body else {}
    except ValueError:
        return {"not JSON": body.decode("latin-1")}
    return members


class Client:
    """One question, and one connection for it at a time."""

    def __init__(
        self, port: int, route: str = STREAM, *, cable: Cable | None = None, key: str = "", **fields: Any
    ) -> None:
        self.request_id = f"fault-{uuid.uuid4().hex}"
        self.route = route
        self.told = Told()
        self.left_at: float | None = None
        """When it left before its answer had ended."""
        self._cable = cable
        self._address = (cable.address if cable else "127.0.0.1", port)
        self._payload = json.dumps(body(**{"prompt": f"What is x? {self.request_id}", **fields})).encode()
        self._headers = {"Idempotency-Key": key} if key else {}
        self._chunked = False
        self._length: int | None = None
        self._body = b""

    async def connect(self) -> Client:
        sock = self._cable.new_socket() if self._cable else socket.socket()
        sock.setblocking(False)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, self._address)
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=2**26)
        return self

    async def ask(self) -> Client:
        """Connects and sends the whole question."""
        await self.connect()
        return await self.send()

    async def send(self, size: int | None = None) -> Client:
        """Sends the question, or so much of its body."""
        fields = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(self._payload))}
        await self._send_request("POST", self.route, fields | self._headers, self._payload[:size])
        return self

    async def resume(self, answer_id: str) -> Client:
        """Asks for what of the answer it has not seen."""
        after = {"Last-Event-ID": str(self.told.numbers[-1])} if self.told.numbers else {}
        await self.connect()
        fields = {"Host": "x", "Accept": "text/event-stream", **after}
        await self._send_request("GET", f"/api/ai/answers/{answer_id}", fields)
        return self

    async def read_head(self, patience: float = PATIENCE_SECONDS) -> Client:
        async with asyncio.timeout(patience):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.split("\r\n")[:-2]
        headers = dict(line.lower().split(": ", 1) for line in lines)
        self.told.status, self.told.whole = int(status.split(" ")[1]), False
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._length = int(headers["content-length"]) if "content-length" in headers else None
        return self

    async def read_text(self, text: str) -> Client:
        """Reads the head, and events until it has this text."""
        await self.read_head()
        return await self.read_more(text)

    async def read_more(self, text: str) -> Client:
        """Reads events until it has this text."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.told.events or self.told.text != text:
                assert await self._read_chunk(), f"ended after {self.told.text!r}"
        return self

    async def read_to_end(self, patience: float = PATIENCE_SECONDS, *, head: bool = True) -> Told:
        """Reads all there is, to an end or to a cut. Fails where neither comes in time."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(patience):
                if head:
                    await self.read_head(patience)
                await self._read_body()
                self.told.whole = True
        return self.told

    async def read_rest(self, patience: float = PATIENCE_SECONDS) -> Told:
        """The same, once the head was read."""
        return await self.read_to_end(patience, head=False)

    def close(self) -> None:
        """FIN."""
        self._leave()
        self._writer.close()

    def reset(self) -> None:
        """RST."""
        self._leave()
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def half_close(self) -> None:
        """FIN of the sending half: it could still be told something."""
        self._leave()
        self._writer.write_eof()

    async def gone(self) -> None:
        """Lets go of the socket."""
        if hasattr(self, "_writer"):
            self._writer.transport.abort()
            with suppress(*_CUTS):
                await self._writer.wait_closed()

    def _leave(self) -> None:
        if self.told.ending is None:
            self.left_at = time.monotonic()

    async def _send_request(self, method: str, path: str, fields: dict[str, str], payload: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        lines += [f"X-Request-Id: {self.request_id}", "", ""]
        self._writer.write("\r\n".join(lines).encode() + payload)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._writer.drain()

    async def _read_body(self) -> None:
        if self._length is not None:
            raw = await self._reader.readexactly(self._length)
            self.told.reply = _members(raw)
            return
        while self._chunked and await self._read_chunk():
            pass

    async def _read_chunk(self) -> bool:
        """Reads one chunk and notes the events in it; the last is empty."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        self._body += (await self._reader.readexactly(size + 2))[:-2]
        *frames, self._body = self._body.split(b"\n\n")
        for frame in frames:
            if not frame.startswith(b":"):
                self._note(frame)
        return size > 0

    def _note(self, frame: bytes) -> None:
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
        self.told.events.append(json.loads(fields[b"data"]))
        if b"id" in fields:
            self.told.numbers.append(int(fields[b"id"]))

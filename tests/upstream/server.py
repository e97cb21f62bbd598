"""The server: connections, requests, scripts, and the signals that tests wait for.

Raw sockets and one task per connection: reading never stops while a script runs, so that the client's
leaving is seen in the middle of a silence as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

from tests.upstream.steps import answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.upstream.steps import Script, Step

WAIT_SECONDS = 5.0
_READ_LIMIT = 64 * 1024 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Signal:
    """An event that any thread may set and any event loop or thread may wait for; it never goes back."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[concurrent.futures.Future[None]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(None)

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        waiter: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            if self._event.is_set():
                return
            self._waiters.append(waiter)
        await asyncio.wrap_future(waiter)

    async def within(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait, but not for ever: what a test uses. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self.wait()

    def block(self, seconds: float = WAIT_SECONDS) -> None:
        """The same for a test without an event loop. Raises TimeoutError."""
        if not self._event.wait(seconds):
            raise TimeoutError


@dataclass(eq=False, kw_only=True)
class UpstreamRequest:
    """A request as it arrived. Times are those of the loop, which are `time.monotonic()`.

    `closed` is set, and `closed_at` filled, when the client closed or reset the connection before the server
    did. `opened` is when the connection was made, which may have carried other requests before.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    opened: float
    closed_at: float | None = None
    closed: Signal = field(default_factory=Signal)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection(asyncio.Protocol):
    """One client connection: reads requests, runs a script for each, sees the client leave at any time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._reader = asyncio.StreamReader(limit=_READ_LIMIT)
        self._requests: list[UpstreamRequest] = []
        self._chunked = False
        self._until_close = False
        self._closed_here = False
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._task = self._loop.create_task(self._serve())
        self._task.add_done_callback(self._served)
        self._upstream.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def eof_received(self) -> None:
        self._client_left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_left()
        self._upstream.connections.discard(self)
        self.lost.set()

    @property
    def request(self) -> UpstreamRequest:
        """The one that is being answered, for a step of a test's own."""
        return self._requests[-1]

    async def start_body(self, head: bytes, *, chunked: bool) -> None:
        """Send the head of a stream, whose body is chunked or else lasts until the connection is closed."""
        self._chunked, self._until_close = chunked, not chunked
        await self.write(head)

    async def write_body(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def write(self, data: bytes) -> None:
        self._transport.write(data)
        # A client in this loop reads once in a turn of it: after two turns it has this piece alone.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def close(self) -> None:
        self._closed_here = True
        self._transport.close()

    def reset(self) -> None:
        """Close with RST. What was written before is delivered, unless the client's window is full."""
        sock = cast("socket.socket", self._transport.get_extra_info("socket"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.abort()

    def abort(self) -> None:
        self._closed_here = True
        self._transport.abort()

    async def _serve(self) -> None:
        while not self._transport.is_closing():
            request = await self._read_request()
            self._requests.append(request)
            for step in self._upstream.take(request):
                await step(self)
                if self._transport.is_closing():
                    return
            self._end_body()

    async def _read_request(self) -> UpstreamRequest:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, path, _version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "transfer-encoding" in headers:
            raise NotImplementedError("this server reads request bodies by Content-Length only")
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return UpstreamRequest(method=method, path=path, headers=headers, body=body, opened=self._opened)

    def _end_body(self) -> None:
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        if self._until_close:
            self.close()
        self._chunked = self._until_close = False

    def _client_left(self) -> None:
        self._task.cancel()
        for request in () if self._closed_here else self._requests:
            if request.closed_at is None:
                request.closed_at = self._loop.time()
                request.closed.set()

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._upstream.failures.append(error)
            self.abort()


_HAPPY: Script = answer("Hello", " there", ".")


class Upstream:
    """The server on a free port of 127.0.0.1, while its context lasts; afterwards its address refuses.

    An error inside a script is raised at the end of the context. `connections` are those open now.
    """

    def __init__(self) -> None:
        self.requests: list[UpstreamRequest] = []
        self.connections: set[Connection] = set()
        self.failures: list[BaseException] = []
        self.base_url = ""
        self._scripts: deque[Script] = deque()
        self._default: Script = _HAPPY
        self._arrivals: dict[int, Signal] = {}

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.close()
        open_now = list(self.connections)
        for connection in open_now:
            connection.abort()
        for connection in open_now:
            await connection.lost.wait()
        await self._server.wait_closed()
        if kind is None and self.failures:
            raise self.failures[0]

    def script(self, *steps: Step | Iterable[Step]) -> None:
        """What happens to the next request for which nothing is queued yet."""
        self._scripts.append(_flat(steps))

    def default(self, *steps: Step | Iterable[Step]) -> None:
        """What happens to requests for which nothing is queued."""
        self._default = _flat(steps)

    def forget(self) -> None:
        """Be as new, but for the address: for tests that share a server which was told it."""
        self.requests.clear()
        self._arrivals.clear()
        self._scripts.clear()
        self._default = _HAPPY

    async def request(self, index: int = 0) -> UpstreamRequest:
        """The request of this number (from 0), as soon as it is here. Raises TimeoutError."""
        await self._arrival(index).within()
        return self.requests[index]

    def block_request(self, index: int = 0) -> UpstreamRequest:
        """The same for a test without an event loop."""
        self._arrival(index).block()
        return self.requests[index]

    def take(self, request: UpstreamRequest) -> Script:
        self.requests.append(request)
        self._arrival(len(self.requests) - 1).set()
        return self._scripts.popleft() if self._scripts else self._default

    def _arrival(self, index: int) -> Signal:
        return self._arrivals.setdefault(index, Signal())


@contextlib.contextmanager
def running_upstream() -> Iterator[Upstream]:
    """An `Upstream` in a thread and loop of its own, for tests without a loop: gates are then `Signal`s."""
    upstream, loop = Upstream(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="upstream")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(upstream.__aenter__(), loop).result(WAIT_SECONDS)
        try:
            yield upstream
        finally:
            asyncio.run_coroutine_threadsafe(upstream.__aexit__(None), loop).result(WAIT_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_SECONDS)
        loop.close()


def _flat(steps: Iterable[Step | Iterable[Step]]) -> Script:
    flat = tuple(one for step in steps for one in ((step,) if callable(step) else step))
    if not flat:
        raise ValueError("a script without a step would leave its request without an answer")
    return flat

"""Networks that fail without a word: a namespace whose only cable can be cut, and a link that stops passing bytes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_CLONE_NEWNET = 0x40000000


class Cable:
    """Between this machine and a network namespace with nothing else in it."""

    def __init__(self) -> None:
        # Of this process alone: the same tests may run beside.
        number = os.getpid()
        self.address = f"10.{200 + number % 50}.{number // 50 % 250}.1"
        self._there = f"{self.address.removesuffix('.1')}.2"
        self._namespace = f"faults-{number}"
        self._ends = f"fa{number}", f"fb{number}"

    def plug(self) -> None:
        here, there = self._ends
        _ip("netns", "add", self._namespace)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self._namespace)
        _ip("address", "add", f"{self.address}/30", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", self._namespace, "address", "add", f"{self._there}/30", "dev", there)
        _ip("-n", self._namespace, "link", "set", there, "up")

    def cut(self) -> None:
        """From now on no packet passes, either way, and nobody is told."""
        _ip("-n", self._namespace, "link", "set", self._ends[1], "down")

    def unplug(self) -> None:
        # Both ends at once. With the namespace they would go, too, but only when the kernel comes round to it.
        _ip("link", "delete", self._ends[0])
        _ip("netns", "delete", self._namespace)

    def new_socket(self) -> socket.socket:
        """A socket of the other side: it stays there, whoever uses it."""
        made: list[socket.socket] = []
        thread = threading.Thread(target=self._make, args=(made,))
        thread.start()
        thread.join()
        return made[0]

    def _make(self, made: list[socket.socket]) -> None:
        # A thread has a namespace of its own, and this one ends with it.
        with Path("/run/netns", self._namespace).open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.socket())


@contextmanager
def plugged_cable() -> Iterator[Cable]:
    """A cable for the time of the context."""
    cable = Cable()
    cable.plug()
    try:
        yield cable
    finally:
        cable.unplug()


def require_namespaces() -> None:
    """Skips the test where this user may make no network namespace; fails it in CI."""
    if os.geteuid() == 0 and shutil.which("ip"):
        return
    message = "clients can vanish only where root and `ip` can make a network namespace"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip") or "ip", *arguments], check=True, capture_output=True)


class Link:
    """A way to a port of this machine, at a port of its own, that can be cut and healed, and made longer."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self.to = to
        self.delay = 0.0
        """How many seconds later everything arrives."""
        self._passing = asyncio.Event()
        self._passing.set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self, *, close: bool) -> None:
        """Passes nothing on: new connections are taken and get no answer. Those there are may be closed with RST."""
        self._passing.clear()
        if close:
            self._abort()

    def heal(self) -> None:
        """Passes on what has waited, and everything from now on."""
        self._passing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection; see `asyncio.start_server`."""
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with suppress(ConnectionError, asyncio.CancelledError):
            async with self._kept(writer):
                await self._passing.wait()
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to)
                async with self._kept(there_writer):
                    await asyncio.gather(self._copy(reader, there_writer), self._copy(there_reader, writer))

    async def close(self) -> None:
        """Ends every connection."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)

    @asynccontextmanager
    async def _kept(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _abort(self) -> None:
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(self.delay)
                await self._passing.wait()
                writer.write(data)
        await self._passing.wait()
        if not writer.transport.is_closing():
            writer.write_eof()


@asynccontextmanager
async def running_link() -> AsyncIterator[Link]:
    """A link to a port where nobody is yet, in the loop of whoever enters."""
    link = Link(free_port())
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    link.port = int(server.sockets[0].getsockname()[1])
    try:
        yield link
    finally:
        server.close()
        await link.close()
        await server.wait_closed()

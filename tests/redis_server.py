"""Real Redis servers for tests: each on a free port of its own, in memory only."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import free_port
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

_START_SECONDS = 5


class RedisServer:
    """A redis-server process, and what a test does to it."""

    def __init__(self, folder: str, password: str, options: Sequence[str]) -> None:
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self._arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._arguments += ["--dir", folder, "--requirepass", password, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, empty, and waits until it listens."""
        self._process = subprocess.Popen(
            [shutil.which("redis-server") or "redis-server", *self._arguments],
            stdout=subprocess.DEVNULL,
        )
        eventually(self._listens, _START_SECONDS, lambda: "redis-server does not listen")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def pause(self) -> None:
        """It keeps its connections, and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a pause."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, and what it held."""
        if self._process:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process
        os.kill(self._process.pid, number)


@contextmanager
def running_redis(password: str = "", options: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Runs a Redis; skips the test where there is none to run, which CI has."""
    if shutil.which("redis-server") is None:
        assert os.environ.get("CI") != "true", "redis-server is missing: scripts/system_packages.sh installs it"
        pytest.skip("needs redis-server")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder, password, options)
        try:
            server.start()
            yield server
        finally:
            server.kill()


class Delayed:
    """The address of a Redis that takes its time."""

    def __init__(self, url: str) -> None:
        self.url = url


@asynccontextmanager
async def delayed(server: RedisServer, seconds: float) -> AsyncIterator[Delayed]:
    """Puts so much time before each of a Redis's replies."""

    connections: list[asyncio.Future[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", server.port)
        copying = asyncio.gather(copy(reader, there_writer, 0), copy(there_reader, writer, seconds))
        connections.append(copying)
        await asyncio.wait({copying})
        for each in (writer, there_writer):
            each.close()
            with suppress(ConnectionError):
                await each.wait_closed()
        closed.release()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(pause)
                writer.write(data)
        writer.close()

    closed = asyncio.Semaphore(0)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield Delayed(server.url.replace(str(server.port), str(port)))
    for copying in connections:
        copying.cancel()
    for _ in connections:
        await closed.acquire()

"""Real processes for tests: the services as an operator starts them, on free ports, with their logs kept."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Protocol

import grpc

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60
"""On a machine that does much else, too: a process that has ended is not waited for."""
PERSISTENT = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]
"""A channel's options: between two tries gRPC's own pauses grow, and a start would be noticed late or too late."""
_PORTS = range(20_000, 32_000, 2)
"""Outside of what the system gives to connections by itself, so that who is restarted finds its port free again."""
_SHARES = 8
"""At most so many workers run tests beside each other."""


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without anybody's settings, and with these."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONWARNINGS": "error::ResourceWarning", **settings}


def free_port() -> int:
    """A port that nobody listens on now, nor on the next, and that no test beside is given meanwhile."""
    while True:
        port = next(_own_ports)
        with suppress(OSError), socket.socket() as probe, socket.socket() as next_probe:
            probe.bind(("127.0.0.1", port))
            next_probe.bind(("127.0.0.1", port + 1))
            return port


def _share_of_ports() -> Iterator[int]:
    """This worker's ports, in turn and for ever. Another run on this machine has the same, and begins elsewhere."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = _PORTS[worker % _SHARES :: _SHARES]
    first = os.getpid() % len(share)
    return itertools.cycle([*share[first:], *share[:first]])


_own_ports = _share_of_ports()


class Served(Protocol):
    """What is at a port of this machine."""

    port: int


class Process:
    """A running service, its port, and what it has logged."""

    def __init__(self, module: str, port: int, settings: dict[str, str]) -> None:
        self.port = port
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=clean_environment(LOG_FORMAT="json", **settings),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self._copier = threading.Thread(target=self._copy, args=(self._process.stderr,))
        self._copier.start()

    @property
    def log(self) -> str:
        """Everything it has logged so far."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def open_files(self) -> int:
        """How many it has, sockets among them."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - counted, not looked at

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it, and returns its exit status."""
        self._process.send_signal(number)
        try:
            status = self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._copier.join(5)
        return status

    def _copy(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.append(line)


@contextmanager
def running_engine_process(base_url: str, port: int = 0, /, **settings: str) -> Iterator[Process]:
    """An engine in front of `base_url`."""
    port = port or free_port()
    defaults = {"OPENAI_API_KEY": "sk-canary-key", "OPENAI_BASE_URL": base_url}
    with _ended(Process("engine_grpc", port, {**defaults, "ENGINE_PORT": str(port), **settings})) as process:
        with grpc.insecure_channel(f"127.0.0.1:{port}", PERSISTENT) as channel:
            wait_until_connected(channel, process)
        yield process


@contextmanager
def running_gateway_process(*engines: Served, port: int = 0, **settings: str) -> Iterator[Process]:
    """A gateway in front of `engines`."""
    port = port or free_port()
    urls = ",".join(f"http://127.0.0.1:{engine.port}" for engine in engines)
    with _ended(Process("sse_gateway", port, {"AI_ENGINE_URL": urls, "PORT": str(port), **settings})) as process:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", process)
        yield process


def wait_until_connected(channel: grpc.Channel, process: Process) -> None:
    """Waits until a channel, made with `PERSISTENT`, reaches the engine at its other end."""
    connecting = grpc.channel_ready_future(channel)

    def is_connected() -> bool:
        assert process.running, process.log
        return bool(connecting.done())

    try:
        eventually(is_connected, START_SECONDS, lambda: process.log)
    finally:
        connecting.cancel()


def wait_until_ready(url: str, process: Process) -> None:
    """Waits until `url` answers 200."""

    def answers() -> bool:
        assert process.running, process.log
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return True
        return False

    eventually(answers, START_SECONDS, lambda: process.log)


@contextmanager
def _ended(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        if process.running:
            process.stop()

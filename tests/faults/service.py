"""The whole service as real processes, and what can be seen of it from outside: descriptors, logs, its own count."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import upstream as up
from tests.processes import running_engine_process, running_gateway_process, wait_until_ready
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.network import Link
    from tests.processes import Process

SETTINGS = {
    "FIRST_TOKEN_TIMEOUT_SECONDS": "1",
    "STALL_TIMEOUT_SECONDS": "1",
    "ANSWER_TIMEOUT_SECONDS": "3",
    "MAX_CONCURRENT_ANSWERS": "4",
    "DRAIN_SECONDS": "0",
    "HEARTBEAT_SECONDS": "0.2",
}
PATIENT = {"FIRST_TOKEN_TIMEOUT_SECONDS": "90", "STALL_TIMEOUT_SECONDS": "90", "ANSWER_TIMEOUT_SECONDS": "120"}
"""For faults that are not the model's."""
SETTLE_SECONDS = 5.0
MOST_KEPT = 24


class Service:
    """An engine behind a gateway, and the model's server. Either process may be ended, and started anew."""

    def __init__(self, upstream: up.Upstream, stack: ExitStack, settings: dict[str, str], link: Link | None) -> None:
        self.upstream = upstream
        self.rest: dict[str, dict[str, int]] = {}
        """What each process has open and running when nobody asks anything."""
        self._stack = stack
        self.pool_port = 0
        """Where each engine keeps as many connections as it has ever needed at once, but not more than `MOST_KEPT`."""
        self.slots = int({**SETTINGS, **settings}["MAX_CONCURRENT_ANSWERS"])
        """How many answers the engine writes at once."""
        self._settings = settings
        self._link = link
        self.engine = self._engine(link.to if link else 0)
        self.gateway = self._gateway()

    def revive(self) -> None:
        """Starts what has ended anew, in its place."""
        if not self.engine.running:
            self.engine = self._engine(self.engine.port)
        if not self.gateway.running:
            self.gateway = self._gateway(self.gateway.port)

    def _engine(self, port: int = 0) -> Process:
        started = running_engine_process(self.upstream.base_url, port, **SETTINGS | self._settings)
        return self._stack.enter_context(started)

    def _gateway(self, port: int = 0) -> Process:
        started = running_gateway_process(self._link or self.engine, port=port, **SETTINGS | self._settings)
        return self._stack.enter_context(started)


@contextmanager
def running_service(link: Link | None = None, /, **settings: str) -> Iterator[Service]:
    """Starts everything.

    Args:
        link: The way from the gateway to the engine, where it is to be cut.
        settings: For both processes, beside those that are always so here.
    """
    with ExitStack() as stack:
        upstream = stack.enter_context(up.running_upstream())
        yield Service(upstream, stack, settings, link)


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    """The process keeps its connections, and does nothing."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if process.running:
            os.kill(process.pid, signal.SIGCONT)


def tcp_connections() -> list[list[str]]:
    """The fields of every TCP connection of this machine (proc(5), /proc/net/tcp and tcp6)."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    return [line.split() for table in tables for line in table.splitlines()[1:]]


def unread_bytes(process: Process) -> int:
    """How much lies at the port that a process serves, and it has not read."""
    return sum(int(field[4].split(":")[1], 16) for field in tcp_connections() if _port(field[1]) == process.port)


def _port(address: str) -> int:
    return int(address.split(":")[1], 16)


def records(process: Process, event: str, request_id: str = "") -> list[dict[str, Any]]:
    """What the process has logged of this event, for this request."""
    lines = [line for line in process.log.splitlines() if event in line and request_id in line]
    return [record for line in lines if (record := json.loads(line))["event"] == event]


def descriptors(process: Process, pool_port: int = 0) -> int:
    """How many files and sockets a process has open, those to `pool_port` left out, which are not too many."""
    pool = {f"socket:[{field[9]}]" for field in tcp_connections() if pool_port and _port(field[2]) == pool_port}
    targets = [_target(entry) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
    kept = [target for target in targets if target in pool]
    assert len(kept) <= MOST_KEPT
    return len(targets) - len(kept)


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


async def ready(gateway: Process) -> None:
    """Waits until the gateway reaches an engine that serves."""
    await asyncio.to_thread(wait_until_ready, f"http://127.0.0.1:{gateway.port}/readyz", gateway)


async def own_count(process: Process) -> dict[str, int]:
    """What the process says of itself when asked by SIGUSR1: tasks, calls, answers, bytes."""
    before = len(records(process, "state"))
    os.kill(process.pid, signal.SIGUSR1)
    await eventually(lambda: len(records(process, "state")) > before)
    record = records(process, "state")[-1]
    return {name: value for name, value in record.items() if isinstance(value, int)}


async def count(process: Process, pool_port: int = 0) -> dict[str, int]:
    """Everything of a process that must come back to where it was."""
    said = await own_count(process) if _tells_its_state(process) else {}
    return {"descriptors": descriptors(process, pool_port), **said}


async def eventually(condition: Callable[[], bool], within: float = SETTLE_SECONDS) -> None:
    """Waits, but not for ever, until `condition` holds: of another process, which tells no event to wait for."""
    await until(condition, within)


def _tells_its_state(process: Process) -> bool:
    """Whether the process handles SIGUSR1, which ends one that does not."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)

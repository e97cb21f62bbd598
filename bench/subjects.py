"""Whom the benchmark compares: how each is started, where it listens, and what it is asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.load import Asking
from bench.processes import cpu_seconds, memory_kib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_HERE = Path(__file__).parent
_PEERS = _HERE / "peers"
_LITELLM = _HERE.parent / ".bench" / "litellm" / "bin" / "litellm"
_START_SECONDS = 120
_STREAM = "/api/ai/chat-image-stream"
_COMPLETIONS = "/v1/chat/completions"


@dataclass(slots=True)
class Running:
    """A subject that serves."""

    name: str
    ports: tuple[int, ...]
    path: str
    openai: bool
    pids: list[int]
    """Its processes; none, where the upstream is asked directly."""

    def asking(self, tokens: int, rate: float, image: bytes, **more: Any) -> Asking:
        """Returns what to ask it; see `Asking`."""
        return Asking(
            ports=self.ports, path=self.path, openai=self.openai, tokens=tokens, rate=rate, image=image, **more
        )

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        return cpu_seconds(self.pids)

    def memory_kib(self) -> int:
        """Memory now."""
        return memory_kib(self.pids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """This service as shipped, but for what is named here."""

    workers: int = 1
    redis: bool = False
    settings: dict[str, str] = field(default_factory=dict)


class Bench:
    """Starts the upstream, and subjects in front of it. To be entered; what it started ends with it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self) -> Self:
        (self._upstream,) = _free_ports(1)
        self._stack.enter_context(_process([sys.executable, "-m", "bench.upstream", str(self._upstream)]))
        _wait_for(self._upstream)
        self._base_url = f"http://127.0.0.1:{self._upstream}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def direct(self) -> Iterator[Running]:
        """Nothing between client and upstream."""
        yield Running("direct", (self._upstream,), _COMPLETIONS, True, [])

    @contextmanager
    def nginx(self) -> Iterator[Running]:
        """nginx, one worker, without buffering."""
        (port,) = _free_ports(1)
        text = (_PEERS / "nginx.conf").read_text()
        config = self.folder / "nginx.conf"
        config.write_text(text.replace("@UPSTREAM@", str(self._upstream)).replace("@PORT@", str(port)))
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
        with _process([nginx, "-p", str(self.folder), "-c", str(config)]) as process:
            _wait_for(port)
            yield Running("nginx", (port,), _COMPLETIONS, True, [process.pid])

    @contextmanager
    def litellm(self) -> Iterator[Running]:
        """LiteLLM's proxy, one worker, without a database."""
        (port,) = _free_ports(1)
        environment = {
            "OPENAI_BASE_URL": self._base_url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "DISABLE_ADMIN_UI": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "True",
        }
        command = [str(_LITELLM), "--config", str(_PEERS / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
        with _process(command, environment) as process:
            _wait_for(port)
            yield Running("litellm", (port,), _COMPLETIONS, True, [process.pid])

    def two_hop(self) -> AbstractContextManager[Running]:
        """A plain FastAPI engine behind a plain FastAPI proxy."""
        return self._pair("two-hop", _uvicorn("two_hop_engine"), _uvicorn("two_hop_gateway"))

    def bare(self) -> AbstractContextManager[Running]:
        """Two services with gRPC between them, as this one's, that do nothing else."""
        engine = [sys.executable, "-m", "bench.peers.bare_engine"]
        return self._pair("bare", engine, [*_uvicorn("bare_gateway"), "--lifespan", "off"])

    @contextmanager
    def _pair(self, name: str, *commands: list[str]) -> Iterator[Running]:
        """An engine and a gateway; each command is given a port."""
        ports = _free_ports(2)
        environment = {"OPENAI_BASE_URL": self._base_url, "ENGINE_URL": f"http://127.0.0.1:{ports[0]}"}
        with ExitStack() as stack:
            processes = [
                stack.enter_context(_process([*command, "--port", str(port)], environment))
                for command, port in zip(commands, ports, strict=True)
            ]
            for port in ports:
                _wait_for(port)
            yield Running(name, ports[1:], _STREAM, False, [process.pid for process in processes])

    @contextmanager
    def ours(self, how: Ours | None = None) -> Iterator[Running]:
        """This service: engines and gateways as shipped. The limits are raised where the default would refuse."""
        how = how or Ours()
        environment = {
            "OPENAI_BASE_URL": self._base_url,
            "OPENAI_API_KEY": "none",
            "MAX_CONCURRENT_ANSWERS": "8000",
            "LOG_FORMAT": "json",
            **how.settings,
        }
        with ExitStack() as stack:
            if how.redis:
                environment["STATE_URL"] = stack.enter_context(self._redis())
            engines, gateways = _free_ports(how.workers), _free_ports(how.workers)
            environment["AI_ENGINE_URL"] = ",".join(f"http://127.0.0.1:{port}" for port in engines)
            pids = [
                stack.enter_context(_process([sys.executable, "-m", module], environment | {variable: str(port)})).pid
                for module, variable, ports in (
                    ("engine_grpc", "ENGINE_PORT", engines),
                    ("sse_gateway", "PORT", gateways),
                )
                for port in ports
            ]
            for port in (*engines, *gateways):
                _wait_for(port)
            yield Running("ours", gateways, _STREAM, False, pids)

    @contextmanager
    def _redis(self) -> Iterator[str]:
        (port,) = _free_ports(1)
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        with _process(["redis-server", *options]):
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}"


def _uvicorn(module: str) -> list[str]:
    return [sys.executable, "-m", "uvicorn", f"bench.peers.{module}:app", "--no-access-log", "--log-level", "warning"]


@contextmanager
def _process(command: list[str], environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program until the end of the context. What it says is kept only to be shown when it fails to start."""
    process = subprocess.Popen(
        command, env=os.environ | (environment or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    """Waits until something listens there.

    Raises:
        TimeoutError: Nothing does.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on {port}")


def _free_ports(count: int) -> tuple[int, ...]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)

"""Runs the whole service on this machine until Ctrl-C: what `make run` and `make run-cluster` call.

One engine and one gateway, or several of each with a Redis that they share. All are the processes that run in
production, with the settings of the environment and `.env`. Where no model is configured, the embedded local one
answers, and this says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dotenv import dotenv_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_READY_SECONDS = 90
_POLL_SECONDS = 0.2
_ASK_SECONDS = 2
_STOP_SECONDS = 10
"""On top of DRAIN_SECONDS: the services tell the rest of their callers for 2 s, and the local model gets 5 s to end."""
_LONGEST_DRAIN = 86_400  # as in the gateway's settings
_DEFAULT_PORT = 3000
_LAST_PORT = 65_535
_GREETING = """
StudyAI is ready on {urls}

  In a browser:       {url}/    and for developers {url}/playground
  Ask about a page:   .venv/bin/studyai ask examples/homework.png "What is x in the first equation?"{option}
  As an app does:     curl -N {url}/api/ai/chat-image-stream -H 'Content-Type: application/json' -d @examples/ask.json
  All in one reply:   curl {url}/api/ai/chat-image -H 'Content-Type: application/json' -d @examples/ask.json
  The API's pages:    {url}/docs

Ctrl-C ends everything.
"""


@dataclass(frozen=True)
class Cluster:
    """What is to run, on which ports of this machine."""

    engine_ports: list[int]
    gateway_ports: list[int]
    redis_port: int | None
    metrics_ports: list[int]
    """The engines', if they are to have any."""
    tls: bool
    """Whether the engines have a certificate; it should name `localhost`."""
    drain_seconds: str
    """How long running answers may go on when this is to end."""

    @property
    def urls(self) -> list[str]:
        """Where the gateways listen."""
        return [f"http://localhost:{port}" for port in self.gateway_ports]

    @property
    def greeting(self) -> str:
        """What to say when all is ready."""
        option = "" if self.gateway_ports[0] == _DEFAULT_PORT else f" --url {self.urls[0]}"
        return _GREETING.format(urls=" and ".join(self.urls), url=self.urls[0], option=option)

    @property
    def stop_seconds(self) -> float:
        """How long a process may take to end."""
        return float(self.drain_seconds) + _STOP_SECONDS

    @property
    def ports(self) -> list[int]:
        """Everything that is to be listened on."""
        return [
            *self.engine_ports,
            *self.gateway_ports,
            *self.metrics_ports,
            *([self.redis_port] if self.redis_port else []),
        ]

    def settings(self) -> dict[str, str]:
        """What all processes are told of each other, and how long they may drain."""
        scheme = "https" if self.tls else "http"
        engines = ",".join(f"{scheme}://localhost:{port}" for port in self.engine_ports)
        state = {"STATE_URL": f"redis://127.0.0.1:{self.redis_port}"} if self.redis_port else {}
        return {"AI_ENGINE_URL": engines, "DRAIN_SECONDS": self.drain_seconds, **state}

    def commands(self) -> list[tuple[list[str], dict[str, str]]]:
        """Each process and its own settings, in the order to start them."""
        python = [sys.executable, "-m"]
        engines = [([*python, "engine_grpc"], {"ENGINE_PORT": str(port)}) for port in self.engine_ports]
        for (_, own), port in zip(engines, self.metrics_ports, strict=False):
            own["ENGINE_METRICS_PORT"] = str(port)
        gateways = [([*python, "sse_gateway"], {"PORT": str(port)}) for port in self.gateway_ports]
        return [*([(self._redis(), {})] if self.redis_port else []), *engines, *gateways]

    def _redis(self) -> list[str]:
        # Nothing is written to disk: what is shared is of use for this run alone.
        return [
            "redis-server",
            "--port",
            str(self.redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--loglevel",
            "warning",
        ]


def main() -> int:
    """Runs the service; returns the exit status: 0 told to end, 1 a process failed, 2 a setting is wrong."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        known = {**dotenv_values(".env"), **os.environ}
        cluster = plan(known, sys.argv[1:])
    except UnicodeDecodeError:
        print(".env is not UTF-8: save it as that.", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return _run(cluster, known, stop)


def _run(cluster: Cluster, known: Mapping[str, str | None], stop: threading.Event) -> int:
    if cluster.redis_port and not shutil.which("redis-server"):
        print("redis-server is not installed: apt-get install redis-server, or brew install redis", file=sys.stderr)
        return 1
    if taken := [port for port in cluster.ports if _listens(port)]:
        print(f"Port {taken[0]} is taken: is the service running already?", file=sys.stderr)
        return 1
    environment = {**os.environ, **first_run_settings(known), **cluster.settings()}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if cluster.redis_port else None
        commands = [(command, {**environment, **own}) for command, own in cluster.commands()]
        processes = stack.enter_context(started(commands, folder, cluster.stop_seconds))
        return watch(cluster, processes, stop)


def plan(known: Mapping[str, str | None], arguments: Sequence[str]) -> Cluster:
    """Returns what the command line and the settings ask for.

    Raises:
        ValueError: A setting is no port, or no time.
    """
    parser = argparse.ArgumentParser(description="Runs engines and gateways on this machine until Ctrl-C.")
    parser.add_argument("--engines", type=int, default=1, metavar="N", help="how many engines (default 1)")
    parser.add_argument("--gateways", type=int, default=1, metavar="N", help="how many gateways (default 1)")
    parser.add_argument("--redis", action="store_true", help="with a Redis that the engines share")
    asked = parser.parse_args(arguments)
    measured = known.get("ENGINE_METRICS_PORT")
    return Cluster(
        engine_ports=_ports(known, "ENGINE_PORT", 5001, asked.engines),
        gateway_ports=_ports(known, "PORT", _DEFAULT_PORT, asked.gateways),
        redis_port=_ports(known, "REDIS_PORT", 6380, 1)[0] if asked.redis else None,
        metrics_ports=_ports(known, "ENGINE_METRICS_PORT", 0, asked.engines) if measured else [],
        tls=bool(known.get("ENGINE_TLS_CERT_FILE")),
        drain_seconds=_drain_seconds(known),
    )


def _ports(known: Mapping[str, str | None], name: str, default: int, count: int) -> list[int]:
    """Returns so many ports, from the one that a setting names on."""
    last = _LAST_PORT + 1 - count  # those behind it have to be ports too
    try:
        first = int(known.get(name) or default)
    except ValueError:
        first = 0
    if not 1 <= first <= last:
        raise ValueError(f"{name} should be a number from 1 to {last}: set it to one, or unset it.")
    return list(range(first, first + count))


def _drain_seconds(known: Mapping[str, str | None]) -> str:
    """Returns the setting, which is 2 for those who try the service: Ctrl-C should not keep them waiting."""
    told = known.get("DRAIN_SECONDS") or "2"
    try:
        possible = 0 <= float(told) <= _LONGEST_DRAIN
    except ValueError:
        possible = False
    if not possible:
        raise ValueError(f"DRAIN_SECONDS should be a number from 0 to {_LONGEST_DRAIN}: set it to one, or unset it.")
    return told


def first_run_settings(known: Mapping[str, str | None]) -> dict[str, str]:
    """Returns what a run without any settings needs."""
    if any(known.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LOCAL_MODEL")):
        return {}
    print("No OPENAI_API_KEY found: the embedded local model answers. It reads pages, but it is no tutor.")
    return {"LOCAL_MODEL": "true"}


@contextmanager
def started(
    commands: Iterable[tuple[list[str], Mapping[str, str]]], folder: str | None, stop_seconds: float
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs the commands, each in its environment. However it is left, also half-way, none of them runs on."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command, environment in commands:
            processes.append(_start(command, environment, folder))
        yield processes
    finally:
        end(processes[::-1], stop_seconds)


def _start(command: list[str], environment: Mapping[str, str], folder: str | None) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C comes here alone, and the processes are ended in order.
    where = folder if command[0] == "redis-server" else None
    return subprocess.Popen(command, env=environment, cwd=where, start_new_session=True)  # noqa: S603 - our commands


def watch(
    cluster: Cluster,
    processes: list[subprocess.Popen[bytes]],
    stop: threading.Event,
    ready_seconds: float = _READY_SECONDS,
) -> int:
    """Says when all is ready, and waits until it is to stop or a process ends."""
    late, ready = time.monotonic() + ready_seconds, False
    while not stop.wait(_POLL_SECONDS):
        if any(process.poll() is not None for process in processes):
            print("A process ended; its last words are above.", file=sys.stderr)
            return 1
        if not ready and (ready := all(_is_ready(url) for url in cluster.urls)):
            print(cluster.greeting, flush=True)
        if not ready and time.monotonic() > late:
            print(f"Not ready after {ready_seconds} s: see {cluster.urls[0]}/readyz", file=sys.stderr)
            return 1
    return 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=_ASK_SECONDS) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def end(processes: Iterable[subprocess.Popen[bytes]], seconds: float) -> None:
    """Ends each in turn, the gateways before the engines that they need, Redis last; kills what takes longer."""
    for process in processes:
        process.terminate()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())

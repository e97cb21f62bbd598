"""Debian's slowhttptest against a real gateway: it loses all that it holds open, and others are served meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import Process, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 300
SECONDS = 8
ATTACKS = {
    "heads that trickle": ["-H"],
    "bodies that trickle": ["-B", "-s", "1000000", "-t", "POST", "-f", "application/json"],
    "readers that do not read": ["-X", "-w", "1", "-y", "2", "-n", "1", "-z", "1"],
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Process]:
    if shutil.which("slowhttptest") is None:
        assert os.environ.get("CI") != "true", "slowhttptest is missing: scripts/system_packages.sh installs it"
        pytest.skip("slowhttptest is not installed")
    impatient: dict[str, Any] = {
        "HEADER_TIMEOUT_SECONDS": "3",
        "BODY_TIMEOUT_SECONDS": "3",
        "WRITE_STALL_TIMEOUT_SECONDS": "3",
    }
    nobody = "http://127.0.0.1:9"
    with running_engine_process(nobody) as engine, running_gateway_process(engine, **impatient) as running:
        yield running


@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_served_while_one_client_holds_many_connections_open(gateway: Process, attack: str) -> None:
    before = gateway.open_files
    attacker = _attack(gateway, ATTACKS[attack])
    seen = [(_seconds_to_answer(gateway), gateway.open_files - before) for _ in _while_running(attacker)]
    attacker.communicate(timeout=20)
    assert max(seconds for seconds, _ in seen) < 2
    assert max(held for _, held in seen) > CONNECTIONS / 2
    assert seen[-1][1] < CONNECTIONS / 10


def _attack(gateway: Process, how: list[str]) -> subprocess.Popen[bytes]:
    path = "/docs/assets/swagger-ui-bundle.js" if "-X" in how else "/api/ai/chat-image-stream"
    target = f"http://127.0.0.1:{gateway.port}{path}"
    limits = ["-c", str(CONNECTIONS), "-r", "300", "-i", "1", "-l", str(SECONDS), "-p", "2", "-u", target]
    return subprocess.Popen([shutil.which("slowhttptest") or "", *how, *limits], stdout=subprocess.PIPE)


def _while_running(attacker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Again and again until the attack is over, and once at least. It ends by itself."""
    while attacker.returncode is None:
        yield
        with suppress(subprocess.TimeoutExpired):
            attacker.wait(0.05)
    yield


def _seconds_to_answer(gateway: Process) -> float:
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/healthz", timeout=10) as reply:
        assert reply.status == 200
    return time.monotonic() - began

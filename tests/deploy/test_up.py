"""How `make run` watches what it has started, and how it ends it. That it runs is in end_to_end/test_up.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from deploy.up import end, plan, started, watch

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS_ON = [sys.executable, "-c", "import signal; signal.alarm(60); signal.pause()"]
"""Until it is told to end, or its test has long been over."""


class Draining:
    """A process that takes so many seconds to end, on a clock that costs none; it tells whether it was let."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ended: list[str] = []

    def terminate(self) -> None:
        self.ended.append("asked")

    def kill(self) -> None:
        self.ended.append("killed")

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None and timeout < self.seconds:
            raise subprocess.TimeoutExpired(RUNS_ON, timeout)
        return 0


def children() -> set[str]:
    """The processes that this one has started and not seen end, from Linux's /proc."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize(
    ("settings", "seconds", "ended"),
    [
        ({"DRAIN_SECONDS": "60"}, 60 + 2, ["asked"]),
        ({"DRAIN_SECONDS": "60"}, 600, ["asked", "killed"]),
        ({}, 2 + 2, ["asked"]),
        ({}, 60, ["asked", "killed"]),
    ],
)
def test_drain_is_let_end_for_as_long_as_the_setting_says(
    settings: dict[str, str | None], seconds: float, ended: Sequence[str]
) -> None:
    cluster = plan(settings, [])
    process = Draining(seconds)
    end([cast("subprocess.Popen[bytes]", process)], cluster.stop_seconds)
    assert cluster.settings()["DRAIN_SECONDS"] == settings.get("DRAIN_SECONDS", "2")
    assert process.ended == ended


@pytest.mark.parametrize("wrong", ["soon", "-1", "nan", "inf", "86401"])
def test_drain_that_is_no_time_is_told(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^DRAIN_SECONDS should be a number from 0 to 86400: "):
        plan({"DRAIN_SECONDS": wrong}, [])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
def test_process_that_cannot_be_started_leaves_none_of_the_others_behind() -> None:
    before = children()
    missing = ["no-such-program"]
    with pytest.raises(FileNotFoundError), started([(RUNS_ON, os.environ), (missing, os.environ)], None, 5):
        pytest.fail("it was started")
    assert children() == before


def test_gateway_that_takes_questions_and_answers_none_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster = plan({"PORT": str(silent.getsockname()[1])}, [])
        begun = time.monotonic()
        assert watch(cluster, [], threading.Event(), ready_seconds=1) == 1
        assert time.monotonic() - begun < 5

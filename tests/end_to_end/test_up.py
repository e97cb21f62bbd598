"""What a newcomer does: `make run` without a key, one question about a picture, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.end_to_end.conftest import tool
from tests.processes import clean_environment, free_port
from tests.upstream import running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


@pytest.fixture
def ports() -> dict[str, str]:
    return {"PORT": str(free_port()), "ENGINE_PORT": str(free_port())}


@contextmanager
def up(folder: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """`make run` in a folder, after the set-up."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "deploy" / "up.py"), *arguments],
        cwd=folder,
        env=clean_environment(PYTHONUNBUFFERED="1", LOG_FORMAT="json", **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


def greeting(running: subprocess.Popen[str]) -> list[str]:
    """What it says until it is ready."""
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            return said
    assert running.stderr is not None
    pytest.fail(f"it ended: {said} {running.stderr.read()}")


def descendants(pid: int) -> Iterator[int]:
    """The processes below one, from Linux's /proc."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
def test_first_run_answers_about_the_picture_and_ctrl_c_ends_every_process(
    tmp_path: Path, ports: dict[str, str]
) -> None:
    with up(tmp_path, **ports) as running:
        assert "No OPENAI_API_KEY found" in greeting(running)[0]
        question = json.loads((ROOT / "examples" / "ask.json").read_text())
        url = f"http://localhost:{ports['PORT']}/api/ai/chat-image-stream"
        with requests.post(url, json=question, stream=True, timeout=START_SECONDS) as reply:
            lines = [line for line in reply.iter_lines(chunk_size=1) if line.startswith(b"data: ")]
        events = [json.loads(line[6:]) for line in lines]
        everyone = [running.pid, *descendants(running.pid)]
        assert len(everyone) == 4
        running.send_signal(signal.SIGINT)
        assert running.wait(15) == 0
    assert [pid for pid in everyone if Path(f"/proc/{pid}").exists()] == []
    assert events[0]["model"] == "studyai-local"
    assert events[-1]["type"] == "end"
    assert "x = 5" in events[-1]["content"]
    assert "stand-in" in events[-1]["content"]
    assert events[-1]["usage"].get("estimated", False) is False
    assert len(events) > 30


def test_cluster_answers_a_key_once_on_both_gateways(tmp_path: Path, ports: dict[str, str]) -> None:
    tool("redis-server")
    question = json.loads((ROOT / "examples" / "ask.json").read_text())
    several = ("--engines", "2", "--gateways", "2", "--redis")
    with running_upstream() as upstream:
        settings = {"OPENAI_BASE_URL": upstream.base_url, "REDIS_PORT": str(free_port()), **ports}
        with up(tmp_path, *several, **settings) as running:
            greeting(running)
            answers = set()
            for port in (int(ports["PORT"]), int(ports["PORT"]) + 1):
                url = f"http://localhost:{port}/api/ai/chat-image"
                reply = requests.post(url, json=question, headers={"Idempotency-Key": "q-1"}, timeout=START_SECONDS)
                answers.add(reply.json()["answer_id"])
            running.send_signal(signal.SIGINT)
            assert running.wait(20) == 0
        assert len(answers) == len(upstream.requests) == 1


def test_run_with_a_taken_port_says_so_and_ends(tmp_path: Path, ports: dict[str, str]) -> None:
    with up(tmp_path, OPENAI_BASE_URL="http://127.0.0.1:9/v1", **ports) as first:
        greeting(first)
        with up(tmp_path, OPENAI_BASE_URL="http://127.0.0.1:9/v1", **ports) as second:
            _, said = second.communicate(timeout=START_SECONDS)
            assert second.returncode == 1
        assert f"Port {ports['ENGINE_PORT']} is taken" in said
        first.send_signal(signal.SIGHUP)
        assert first.wait(15) == 0


@pytest.mark.parametrize("wrong", ["abc", "0", "65536"])
@pytest.mark.parametrize("name", ["PORT", "ENGINE_PORT", "ENGINE_METRICS_PORT", "REDIS_PORT"])
def test_run_with_a_port_that_is_none_names_it_and_ends_with_status_2(tmp_path: Path, name: str, wrong: str) -> None:
    with up(tmp_path, "--redis", **{name: wrong}) as running:
        assert running.communicate(timeout=START_SECONDS) == (
            "",
            f"{name} should be a number from 1 to 65535: set it to one, or unset it.\n",
        )
        assert running.returncode == 2


def test_run_with_a_port_too_high_for_all_gateways_says_how_high_it_may_be(tmp_path: Path) -> None:
    with up(tmp_path, "--gateways", "2", PORT="65535") as running:
        _, said = running.communicate(timeout=START_SECONDS)
        assert running.returncode == 2
    assert said == "PORT should be a number from 1 to 65534: set it to one, or unset it.\n"


def test_run_with_a_file_of_settings_that_is_no_text_names_it_and_ends_with_status_2(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("OPENAI_API_KEY=clé".encode("latin-1"))
    with up(tmp_path) as running:
        assert running.communicate(timeout=START_SECONDS) == ("", ".env is not UTF-8: save it as that.\n")
        assert running.returncode == 2


def test_run_with_a_wrong_setting_names_it_and_ends(tmp_path: Path, ports: dict[str, str]) -> None:
    with up(tmp_path, OPENAI_API_KEY="sk-x", STALL_TIMEOUT_SECONDS="soon", **ports) as running:
        _, said = running.communicate(timeout=START_SECONDS)
        assert running.returncode == 1
    assert "STALL_TIMEOUT_SECONDS" in said

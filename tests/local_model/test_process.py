"""How the program starts and ends."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from local_model.__main__ import _listening
from tests.local_model.asking import about
from tests.local_model.conftest import STOP_SECONDS, LocalModel, close, start


@pytest.fixture
def slow_model(tmp_path: Path) -> Iterator[LocalModel]:
    """A server that takes a minute for an answer."""
    model = start(tmp_path, "--tokens-per-second", "1")
    try:
        yield model
    finally:
        if model.process.poll() is None:
            model.process.kill()
        close(model)


def end_stdin(model: LocalModel) -> None:
    assert model.process.stdin is not None
    model.process.stdin.close()


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(end_stdin, id="parent gone"),
        pytest.param(lambda model: model.process.send_signal(signal.SIGTERM), id="SIGTERM"),
        pytest.param(lambda model: model.process.send_signal(signal.SIGINT), id="SIGINT"),
    ],
)
def test_stops_at_once_in_peace_though_a_stream_is_open(
    slow_model: LocalModel, stop: Callable[[LocalModel], None]
) -> None:
    body = {"model": "m", "messages": about(None, "What is 1 + 1?"), "stream": True}
    url = f"{slow_model.base_url}/chat/completions"
    with requests.post(url, json=body, stream=True, timeout=5) as response:
        lines = response.iter_lines()
        assert b"assistant" in next(lines)
        asked = time.monotonic()
        stop(slow_model)
        assert slow_model.process.wait(STOP_SECONDS) == 0
        assert time.monotonic() - asked < 2
    assert slow_model.process.stdout is not None
    assert slow_model.process.stdout.read() == b""  # after its one line
    assert slow_model.errors.read_text() == ""
    assert slow_model.refused.read_text() == ""


def test_tells_what_to_install_where_the_extra_is_missing() -> None:
    # None in sys.modules is how Python itself is told that a module cannot be imported.
    program = (
        "import runpy, sys; sys.modules['rapidocr'] = None; sys.argv = ['local_model'];"
        "runpy.run_module('local_model', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr == b"local_model needs rapidocr: pip install 'studyai-chat[local]'\n"


def test_taken_port_is_told_in_one_line() -> None:
    with _listening("127.0.0.1", 0) as taken, pytest.raises(SystemExit) as refusal:
        _listening("127.0.0.1", taken.getsockname()[1])
    assert "Address already in use" in str(refusal.value)


@pytest.mark.parametrize("pace", ["-1", "nan", "inf", "fast"])
def test_senseless_pace_is_refused(pace: str) -> None:
    command = [sys.executable, "-m", "local_model", "--tokens-per-second", pace]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert b"--tokens-per-second" in done.stderr

import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
START_SECONDS = 30
STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A running `python -m local_model`."""

    process: subprocess.Popen[bytes]
    base_url: str
    errors: Path
    """What it wrote to standard error."""
    refused: Path
    """The connections beyond loopback that it tried to make, one a line."""


def start(folder: Path, *arguments: str) -> LocalModel:
    """Starts the program as the engine does, barred from everything but loopback, and reads its line."""
    errors, refused = folder / "stderr", folder / "refused"
    refused.touch()
    paths = os.pathsep.join([str(HERE / "loopback_only"), str(HERE.parents[1])])
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "local_model", "--port", "0", "--exit-with-parent", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": paths, "LOOPBACK_ONLY_LOG": str(refused)},
        )
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(START_SECONDS):
            process.kill()
    line = process.stdout.readline().decode()
    assert line.startswith("http://127.0.0.1:"), errors.read_text()
    return LocalModel(process, line.strip(), errors, refused)


def close(model: LocalModel) -> int:
    """Closes its standard input and pipes, waits for its end, and returns its exit status."""
    with model.process as process:
        assert process.stdin is not None
        process.stdin.close()
        return process.wait(STOP_SECONDS)


@pytest.fixture(scope="session")
def local_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    """One server for all tests that ask it something; it answers without pacing."""
    model = start(tmp_path_factory.mktemp("local_model"), "--tokens-per-second", "0")
    try:
        yield model
    finally:
        status = close(model)
    assert status == 0
    assert model.errors.read_text() == ""
    assert model.refused.read_text() == ""

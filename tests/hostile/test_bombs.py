"""Pictures that are bombs are refused, or defused, for 100 ms of the processor's time and 16 MB of memory."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.hostile.bombs import defused_bombs, refused_bombs

if TYPE_CHECKING:
    from tests.hostile.conftest import Attacked

MAX_MILLISECONDS = 100
MAX_BYTES = 16_000_000
SENT_BYTES = 2_300_000
"""The largest picture that fits into the largest body."""
TRIES = 3
"""The best counts: neighbours take cache and clock speed from a process, but a bomb is dear every time."""
SENTENCES = {
    "The image file is damaged or incomplete.",
    "The image has more than 50 megapixels.",
    "The image is not a JPEG, PNG, WebP or GIF file.",
}


def cost(files: list[Path]) -> list[dict[str, Any]]:
    """What the engine's picture code takes for each file, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.hostile.cost", *map(str, files)], capture_output=True, check=True, timeout=60
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The cheapest run of each bomb."""
    folder = tmp_path_factory.mktemp("bombs")
    bombs = {**refused_bombs(), **defused_bombs()}
    for name, build in bombs.items():
        (folder / name).write_bytes(build())
    runs = [cost([folder / name for name in bombs]) for _ in range(TRIES)]
    best = [min(tries, key=lambda run: float(run["ms"])) for tries in zip(*runs, strict=True)]
    for run in sorted(best, key=lambda run: -float(run["ms"])):
        print(f"{run['file']:28} {run['ms']:6.1f} ms {run['bytes'] / 1e6:5.1f} MB  {run['told']}")
    return {run["file"]: run for run in best}


@pytest.mark.parametrize("name", refused_bombs())
def test_bomb_is_refused(measured: dict[str, dict[str, Any]], name: str) -> None:
    assert measured[name]["told"] in SENTENCES


@pytest.mark.parametrize("name", defused_bombs())
def test_bomb_in_what_is_not_drawn_is_cut_out(measured: dict[str, dict[str, Any]], name: str) -> None:
    assert measured[name]["told"] in {"40 x 24", "3 x 2"}


@pytest.mark.parametrize("name", [*refused_bombs(), *defused_bombs()])
def test_bomb_costs_next_to_nothing(measured: dict[str, dict[str, Any]], name: str) -> None:
    assert measured[name]["ms"] < MAX_MILLISECONDS
    assert measured[name]["bytes"] < MAX_BYTES


class Memory:
    """What a process has needed since this was made."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts anew; see proc(5)
        self._before = self._kilobytes("VmRSS")

    @property
    def grown(self) -> int:
        """Bytes, at the peak."""
        return (self._kilobytes("VmHWM") - self._before) * 1024

    def _kilobytes(self, name: str) -> int:
        (line,) = [line for line in self._status.read_text().splitlines() if line.startswith(f"{name}:")]
        return int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_bomb_costs_the_whole_service_next_to_nothing(service: Attacked) -> None:
    service.ask(base64_image=base64.b64encode(bytes(SENT_BYTES)).decode())
    for name, build in refused_bombs().items():
        image = base64.b64encode(build()[:SENT_BYTES]).decode()
        tries = []
        for _ in range(TRIES):
            processes = [Memory(process.pid) for process in (service.engine, service.gateway)]
            began = time.perf_counter()
            assert service.ask(base64_image=image).status_code == 422
            milliseconds = (time.perf_counter() - began) * 1000
            tries.append((max(memory.grown for memory in processes), milliseconds))
        least, fastest = min(grown for grown, _ in tries), min(milliseconds for _, milliseconds in tries)
        print(f"{name:28} {fastest:6.1f} ms {least / 1e6:5.1f} MB")
        assert least < MAX_BYTES, name
    assert service.upstream.requests == []

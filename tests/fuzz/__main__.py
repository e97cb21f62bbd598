"""Fuzzes a target with atheris, guided by coverage: `python -m tests.fuzz reader [seconds]`; without a name, all.

Atheris is no dependency of the project: `make fuzz` installs it. What it finds it leaves as a file, and the target's
name and that file reproduce it: `python -m tests.fuzz reader crash-…`.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # `make fuzz` installs it

with atheris.instrument_imports(
    include=["engine_grpc", "sse_gateway", "json", "google.protobuf", "google.rpc", "grpc_status"]
):
    from sse_gateway.log import configure_logging
    from tests.fuzz.corpus import corpus
    from tests.fuzz.targets import TARGETS

_SECONDS = "60"
_LONGEST = 4096


def main() -> None:
    """Fuzzes one target in this process, or all of them in processes of their own."""
    chosen = [argument for argument in sys.argv[1:] if argument in TARGETS]
    what = next((argument for argument in sys.argv[1:] if argument not in TARGETS), _SECONDS)
    if chosen:
        _fuzz(chosen[0], what)
    for name in TARGETS:
        print(f"{name}:", flush=True)
        subprocess.run([sys.executable, "-m", "tests.fuzz", name, what], check=True)


def _fuzz(name: str, what: str) -> None:
    configure_logging("error", "json")
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(corpus(name)):
            (Path(folder) / str(number)).write_bytes(data)
        limits = [f"-max_total_time={what}", f"-max_len={_LONGEST}", "-timeout=5", "-print_final_stats=1", folder]
        atheris.Setup([sys.argv[0], *(limits if what.isdecimal() else [what])], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()

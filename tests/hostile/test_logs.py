"""One line per record whatever it holds, in both services and both formats, with no text of an exception in it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.hostile.logging_process import CANARY, TEXTS

RECORDS = 2 * len(TEXTS) + 9 + 4 + 1 + 3 + 1 + 1
every_service = pytest.mark.parametrize("package", ["engine_grpc", "sse_gateway"])


def logged(package: str, log_format: str) -> list[str]:
    """The lines that the process has logged."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.hostile.logging_process", package, log_format],
        capture_output=True,
        check=False,
        timeout=30,
        env={"PYTHONIOENCODING": "utf-8:surrogatepass", "PYTHONPATH": ":".join(sys.path)},
    )
    assert (run.returncode, run.stdout) == (1, b"")
    return run.stderr.decode("utf-8", "surrogatepass").removesuffix("\n").split("\n")


def strict(line: str) -> Any:
    def constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(line, parse_constant=constant)


@every_service
def test_each_json_record_is_one_line_of_ascii(package: str) -> None:
    lines = logged(package, "json")
    assert len(lines) == RECORDS
    records = [strict(line) for line in lines]
    assert all(isinstance(record, dict) and record["level"] for record in records)
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert not [record for record in records if record["event"] == "forged"]
    assert {"uncaught exception", "a warning", "a record could not be logged"} <= {r["event"] for r in records}


@every_service
def test_each_console_record_is_one_line_that_a_terminal_only_shows(package: str) -> None:
    lines = logged(package, "console")
    assert len(lines) == RECORDS
    assert [line for line in lines if not line.isprintable()] == []


@every_service
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_record_quotes_an_exception_or_an_object(package: str, log_format: str) -> None:
    lines = logged(package, log_format)
    assert [line for line in lines if CANARY in line] == []
    assert sum("ValueError" in line for line in lines) >= 6

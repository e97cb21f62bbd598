"""What an operator may set, and what the engine says when it is wrong."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from datetime import date
from typing import TYPE_CHECKING

import openai.types.shared.chat_model
import pytest

from engine_grpc.retired_models import SHUTDOWN_DATES, retirement_warning
from tests.processes import clean_environment

if TYPE_CHECKING:
    from pathlib import Path


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine_grpc"],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_engine_without_anybody_to_answer_says_what_to_set(tmp_path: Path) -> None:
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert "OPENAI_API_KEY" in ended.stderr
    assert "LOCAL_MODEL=true" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_wrong_setting_is_named_and_no_value_shown(tmp_path: Path) -> None:
    ended = start(
        tmp_path,
        OPENAI_API_KEY="sk-canary",
        ENGINE_PORT="canary-port",
        STALL_TIMEOUT_SECONDS="-1",
        OPENAI_BASE_URL="canary.example",
    )
    assert ended.returncode == 2
    named = [line.split(":")[1].strip() for line in ended.stderr.splitlines()]
    assert sorted(named) == ["ENGINE_PORT", "OPENAI_BASE_URL", "STALL_TIMEOUT_SECONDS"]
    assert "canary" not in ended.stderr


@pytest.mark.parametrize("url", ["canary.example", "canary.example:8000/v1", "ftp://canary/v1", "http:///v1"])
def test_model_server_that_is_no_address_is_told_what_one_looks_like(tmp_path: Path, url: str) -> None:
    ended = start(tmp_path, OPENAI_BASE_URL=url)
    assert ended.returncode == 2
    said = "Must be http:// or https://, a host and maybe a port, up to and including /v1"
    assert ended.stderr == f"engine-grpc: OPENAI_BASE_URL: {said}\n"


def test_settings_are_read_from_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-x\nENGINE_PORT=eighty\nPORT=3000\n")
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("engine-grpc: ENGINE_PORT:")


def test_env_file_in_another_encoding_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-x\n", "utf-16")
    ended = start(tmp_path)
    assert (ended.returncode, ended.stderr) == (2, "engine-grpc: .env: Save it as UTF-8\n")


@pytest.mark.parametrize(
    ("model", "warning"),
    [
        ("gpt-4-vision-preview", "OpenAI shut down gpt-4-vision-preview on 2024-12-06"),
        ("gpt-4o", "OpenAI is going to shut down gpt-4o on 2027-01-14"),
        ("gpt-5.4-mini", None),
        ("my-own-model", None),
    ],
)
def test_operator_is_warned_of_a_model_at_its_end(model: str, warning: str | None) -> None:
    said = retirement_warning(model, date(2026, 11, 23))
    assert said == warning if warning is None else said is not None and said.startswith(warning)


def test_table_of_retired_models_is_the_sdks() -> None:
    comment = re.sub(r"\s+", " ", inspect.getsource(openai.types.shared.chat_model).partition("Deprecated values:")[2])
    announced = {}
    for entry in comment.split(" - ")[1:]:
        if found := re.search(r"Announced shutdown date: (\d{4}-\d\d-\d\d)", entry):
            names = re.findall(r'"([^"]+)"', entry[: found.start()])
            announced.update(dict.fromkeys(names, date.fromisoformat(found[1])))
    assert announced == SHUTDOWN_DATES

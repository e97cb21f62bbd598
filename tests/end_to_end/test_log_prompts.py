"""LOG_PROMPTS=true: the one exception to what a log may hold, for development on one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests import upstream as up
from tests.end_to_end.conftest import body
from tests.processes import clean_environment, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = {"prompt": "What is\nx?", "student_id": "canary-student", "session_id": "canary-session"}


def records(log: str, event: str) -> list[dict[str, Any]]:
    return [record for record in map(json.loads, log.splitlines()) if record["event"].startswith(event)]


@pytest.mark.parametrize(("asked", "level"), [("true", "info"), ("true", "error"), ("false", "debug")])
def test_words_are_logged_where_they_are_asked_for(asked: str, level: str) -> None:
    with (
        up.running_upstream() as upstream,
        running_engine_process(upstream.base_url, LOG_PROMPTS=asked, LOG_LEVEL=level) as engine,
        running_gateway_process(engine, LOG_LEVEL=level) as gateway,
    ):
        upstream.script(*up.answer("It is", " 5."))
        upstream.script(up.stream_headers(), up.chunk("It"), up.close())
        for _ in range(2):
            requests.post(
                f"http://127.0.0.1:{gateway.port}/api/ai/chat-image-stream", json=body(**QUESTION), timeout=10
            )
    words = records(engine.log, "answer words")
    if asked == "true":
        asked_and_said = [(said["prompt"], said["answer"]) for said in words]
        assert asked_and_said == [("What is\nx?", "It is 5."), ("What is\nx?", "It")]
        assert level == "error" or len(records(engine.log, "LOG_PROMPTS=true")) == 1
        assert all(len(said["answer_id"]) == 32 for said in words)
    else:
        assert words == records(engine.log, "LOG_PROMPTS") == []
    assert "canary" not in engine.log + gateway.log
    assert "What is" not in gateway.log


def test_words_are_not_logged_where_other_machines_ask(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "engine_grpc"],
        cwd=tmp_path,
        env=clean_environment(LOCAL_MODEL="true", LOG_PROMPTS="true", ENGINE_HOST="0.0.0.0", INSECURE="true"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "LOG_PROMPTS=true" in ended.stderr
    assert "ENGINE_HOST=127.0.0.1" in ended.stderr

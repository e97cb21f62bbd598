"""The embedded local model: asked past every proxy, and not outlived by its engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from studyai.v1 import chat_pb2_grpc

from engine_grpc.embedded import LocalModel
from tests.engine.harness import complete_request
from tests.processes import running_engine_process
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.processes import Process

NO_PROXY_IS_THERE = "http://127.0.0.1:9"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
def test_engine_asks_its_local_model_past_the_proxy_and_ends_with_it() -> None:
    with running_engine_process("", LOCAL_MODEL="true", HTTP_PROXY=NO_PROXY_IS_THERE) as engine:
        with grpc.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
            answer = chat_pb2_grpc.ChatServiceStub(channel).CompleteChatImage(complete_request(), timeout=30)
        assert answer.text
        os.kill(local_model_of(engine), signal.SIGKILL)
        eventually(lambda: not engine.running, told=lambda: engine.log)
        assert engine.stop() == 1
        assert "the local model has ended" in engine.log


async def test_model_that_ends_after_the_engine_was_told_to_is_not_lost() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    model, asked = LocalModel("http://127.0.0.1:1", process), asyncio.Event()
    asked.set()
    assert not await model.lost_before(asked)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    assert await process.wait() == 0
    assert not await model.lost_before(asked)
    asked.clear()
    assert await model.lost_before(asked)


def local_model_of(engine: Process) -> int:
    """The id of the one process that an engine has started."""
    (child,) = [
        child
        for task in Path(f"/proc/{engine.pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return int(child)

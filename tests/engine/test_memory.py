"""An answer that is being written holds its text, and nothing of the picture that it was asked about."""

from __future__ import annotations

import gc
import random
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import httpx2
from studyai.v1 import chat_pb2, chat_pb2_grpc

from engine_grpc.model import Prompt
from tests import upstream as up
from tests.engine.harness import request, running_engine
from tests.engine.pictures import png_chunk
from tests.processes import running_engine_process

if TYPE_CHECKING:
    from tests.processes import Process
    from tests.upstream import Upstream

SIDE = 1400
ANSWERS = 30


def large_picture() -> bytes:
    """A PNG of about 2 MB."""
    rows = b"".join(b"\0" + random.Random(row).randbytes(SIDE) for row in range(SIDE))
    head = SIDE.to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")
    )


async def test_running_answer_has_let_go_of_its_prompt_and_its_request() -> None:
    async with up.Upstream() as upstream, running_engine(upstream, openai_fallback_model="second") as engine:
        upstream.default(up.stream_headers(), up.chunk("Hi"), up.silence())
        call = engine.stub.ChatImage(request())
        async for message in call:
            if message.text_delta.text:
                break
        gc.collect()
        assert engine.answers.live == 1
        assert [kept for kept in gc.get_objects() if isinstance(kept, Prompt)] == []
        assert [kept for kept in gc.get_objects() if isinstance(kept, httpx2.Request) and kept.content] == []
        call.cancel()


async def test_running_answers_with_large_pictures_take_little_memory() -> None:
    async with up.Upstream() as upstream:
        upstream.default(up.stream_headers(), up.chunk("Hi"), up.silence())
        with running_engine_process(upstream.base_url) as engine:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
                calls = [await begun(channel, upstream) for _ in range(5)]
                before = megabytes(engine)
                calls += [await begun(channel, upstream) for _ in range(ANSWERS)]
                grown = megabytes(engine) - before
                for call in calls:
                    call.cancel()
    assert grown < ANSWERS


async def begun(channel: grpc.aio.Channel, upstream: Upstream) -> Any:
    """Asks in the one session whose picture is remembered, and reads up to the first text."""
    stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
    question = chat_pb2.ImageQuestion(image=large_picture(), prompt="What is x?", session_id="one")
    call = stub.ChatImage(chat_pb2.ChatImageRequest(question=question))
    async for message in call:
        if message.text_delta.text:
            break
    upstream.requests.clear()
    return call


def megabytes(process: Process) -> float:
    """The memory that a process has of its own now."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, check=True, text=True)  # noqa: S607 - wherever ps is
    return int(told.stdout) / 1024

"""What is refused is forgotten at once: who sends large nonsense all day long must not fill the memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests import upstream as up
from tests.engine.harness import RunningEngine, complete_request, request, running_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Refused = Callable[[RunningEngine], Awaitable[Any]]

NONSENSE = os.urandom(1_000_000)
TIMES = 8


async def stream_of_nonsense(engine: RunningEngine) -> Any:
    return await engine.stub.ChatImage(request(image=NONSENSE)).read()


async def reply_to_nonsense(engine: RunningEngine) -> Any:
    return await engine.stub.CompleteChatImage(complete_request(image=NONSENSE))


async def too_many_words(engine: RunningEngine) -> Any:
    return await engine.stub.ChatImage(request(image=NONSENSE, prompt="x" * 5000)).read()


async def no_message(engine: RunningEngine) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
        call: Any = channel.unary_unary("/studyai.v1.ChatService/CompleteChatImage")
        return await call(NONSENSE)


@asynccontextmanager
async def without_collections() -> AsyncIterator[None]:
    """Python frees what nothing refers to, and leaves cycles alone."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("ask", [stream_of_nonsense, reply_to_nonsense, too_many_words, no_message])
async def test_refused_question_leaves_no_picture_behind(ask: Refused) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine, without_collections():
        for number in range(TIMES + 1):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(engine)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            del refused
            if number == 0:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
    assert (after - before) / TIMES < len(NONSENSE) / 10

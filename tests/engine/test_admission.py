"""Who is let in, who is not, and how an engine that stops treats both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from studyai.v1 import chat_pb2

import tests.upstream as up
from tests.engine.harness import RunningEngine, error_info, request, running_engine
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.upstream import Upstream

MAY_JOIN = (("x-may-join", "1"),)
STREAM = "/studyai.v1.ChatService/ChatImage"
COMPLETE = "/studyai.v1.ChatService/CompleteChatImage"


@pytest.fixture
async def full(upstream: Upstream) -> AsyncIterator[RunningEngine]:
    """An engine with room for one answer, which another caller has."""
    upstream.script(up.stream_headers(), up.silence())
    async with running_engine(upstream, max_concurrent_answers=1) as engine:
        held = engine.stub.ChatImage(chat_pb2.ChatImageRequest(question=request().question, request_id="key"))
        await held.read()
        yield engine
        held.cancel()


def begun(engine: RunningEngine, method: str, **options: Any) -> Any:
    """A call of which only the head is sent, until the test writes its message."""
    return engine.channel.stream_stream(method)(**options)


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await asyncio.wait_for(call.read(), 5)
    return str(error_info(told.value).reason)


@pytest.mark.parametrize("method", [STREAM, COMPLETE])
async def test_full_engine_refuses_before_the_question_is_sent(full: RunningEngine, method: str) -> None:
    assert await refusal(begun(full, method)) == "OVERLOADED"


@pytest.mark.parametrize("method", [STREAM, COMPLETE])
async def test_full_engine_looks_whether_a_key_has_its_answer(full: RunningEngine, method: str) -> None:
    call = begun(full, method, metadata=MAY_JOIN)
    await call.write(chat_pb2.ChatImageRequest(question=request().question, request_id="other").SerializeToString())
    await call.done_writing()
    assert await refusal(call) == "OVERLOADED"


async def test_retry_joins_its_answer_on_a_full_engine(full: RunningEngine) -> None:
    asked = chat_pb2.ChatImageRequest(question=request().question, request_id="key")
    joined = full.stub.ChatImage(asked, metadata=MAY_JOIN)
    first = await joined.read()
    assert isinstance(first, chat_pb2.ChatImageResponse)
    assert first.WhichOneof("event") == "started"
    joined.cancel()


async def test_questions_on_their_way_take_room(upstream: Upstream) -> None:
    async with running_engine(upstream, max_concurrent_answers=2) as engine:
        on_their_way = [begun(engine, STREAM) for _ in range(2)]
        await until(lambda: engine.calls.live == 2)
        assert await refusal(begun(engine, STREAM)) == "OVERLOADED"
        for call in on_their_way:
            call.cancel()
        async with asyncio.timeout(5):
            while (await engine.stream()).error:
                pass


async def test_call_without_a_question_is_told_so(upstream: Upstream) -> None:
    async with running_engine(upstream) as engine:
        call = begun(engine, STREAM)
        await call.done_writing()
        assert await refusal(call) == "INVALID_REQUEST"


async def test_engine_that_stops_does_not_wait_for_who_watches_its_health(upstream: Upstream) -> None:
    async with running_engine(upstream) as engine:
        health: Any = health_pb2_grpc.HealthStub(engine.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.ensure_future(engine.stop(60))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(5):
            await stopping

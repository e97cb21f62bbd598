"""The engine's calls as an internal consumer makes them."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from studyai.v1 import chat_pb2

from engine_grpc.model import Prompt
from tests import upstream as up
from tests.engine.harness import (
    WORKSHEET,
    bad_request,
    complete_request,
    error_info,
    nothing_is_left,
    read,
    request,
    retry_info,
    running_engine,
)

if TYPE_CHECKING:
    from tests.engine.harness import RunningEngine
    from tests.upstream import Upstream, UpstreamRequest


async def test_stream_and_whole_answer_are_the_same(engine: RunningEngine, upstream: Upstream) -> None:
    for _ in range(2):
        upstream.script(*up.answer("The", " answer", " is 6.", usage=(30, 20)))
    streamed = await engine.stream(session_id="s-1")
    whole = await engine.stub.CompleteChatImage(complete_request(session_id="s-1"))
    assert whole.text == streamed.text == "The answer is 6."
    assert streamed.finished is not None
    assert whole.finished.usage == streamed.finished.usage
    assert whole.finished.finish_reason == streamed.finished.finish_reason
    assert whole.started.session_id == streamed.messages[0].started.session_id == "s-1"
    assert whole.started.model == "gpt-5.4-mini"


async def test_start_comes_before_the_model_says_anything(engine: RunningEngine, upstream: Upstream) -> None:
    upstream.script(up.silence())
    call = engine.stub.ChatImage(request())
    async with asyncio.timeout(5):
        first = await call.read()
    assert isinstance(first, chat_pb2.ChatImageResponse)
    assert first.sequence == 0
    assert len(first.started.answer_id) == 32
    assert first.started.session_id
    assert abs(first.started.start_time.ToDatetime().timestamp() - time.time()) < 86_400
    call.cancel()


async def test_reader_that_was_away_gets_everything_it_missed_as_one_piece(
    engine: RunningEngine, upstream: Upstream
) -> None:
    many = [f"{number} " for number in range(5_000)]
    upstream.script(*up.answer(*many, usage=(1, 1)))
    messages = aiter(engine.stub.ChatImage(request()))
    await anext(messages)
    asked = await upstream.request(0)
    await nothing_is_left(engine)
    texts, numbers = [], []
    async for message in messages:
        texts.append(message.text_delta.text)
        numbers.append(message.sequence)
    assert "".join(texts) == "".join(many)
    assert numbers == sorted(set(numbers))
    assert len(numbers) < len(many)
    assert asked.closed_at is None


PHASES = {
    "before the headers": [up.silence()],
    "before the first token": [up.stream_headers(), up.silence()],
    "in mid-stream": [up.stream_headers(), up.chunk("Hi"), up.silence()],
}


async def _hangs_up_within(asked: UpstreamRequest, since: float, seconds: float) -> None:
    await asked.closed.within()
    assert asked.closed_at is not None
    assert asked.closed_at - since < seconds


@pytest.mark.parametrize("steps", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("method", ["ChatImage", "CompleteChatImage"])
async def test_cancelled_call_closes_the_connection_to_the_model(
    engine: RunningEngine, upstream: Upstream, method: str, steps: list[Any]
) -> None:
    upstream.script(*steps)
    asks = request() if method == "ChatImage" else complete_request()
    call = getattr(engine.stub, method)(asks)
    asked = await upstream.request(0)
    call.cancel()
    await _hangs_up_within(asked, time.monotonic(), 0.25)
    await nothing_is_left(engine)


async def test_callers_deadline_closes_the_connection_to_the_model(engine: RunningEngine, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
    since = time.monotonic()
    call = engine.stub.ChatImage(request(), timeout=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await _hangs_up_within(await upstream.request(0), since, 1 + 0.25)
    await nothing_is_left(engine)


INVALID = {
    "no picture": ({"image": b""}, "question.image"),
    "no prompt": ({"prompt": " \n "}, "question.prompt"),
    "long prompt": ({"prompt": "x" * 4001}, "question.prompt"),
    "long subject": ({"subject": "x" * 65}, "question.subject"),
    "line break in the student's id": ({"student_id": "a\nb"}, "question.student_id"),
    "long session": ({"session_id": "x" * 129}, "question.session_id"),
}


@pytest.mark.parametrize(("fields", "field"), INVALID.values(), ids=INVALID)
async def test_request_at_fault_is_refused_and_names_the_field(
    engine: RunningEngine, upstream: Upstream, fields: dict[str, Any], field: str
) -> None:
    streamed = await engine.stream(**fields)
    assert streamed.error is not None
    assert streamed.error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(streamed.error).reason == "INVALID_REQUEST"
    assert error_info(streamed.error).domain == "studyai"
    named = bad_request(streamed.error)
    assert named is not None
    assert [violation.field for violation in named.field_violations] == [field]
    assert upstream.requests == []


async def test_longest_request_that_keeps_the_rules_is_answered(engine: RunningEngine) -> None:
    streamed = await engine.stream(
        prompt=f" {'数' * 4000}\n", subject="x" * 64, session_id="A.b_c:d-" * 16, student_id="9" * 128
    )
    assert streamed.error is None


async def test_kept_answer_keeps_no_prompt(engine: RunningEngine) -> None:
    streamed = await engine.stream()
    await nothing_is_left(engine)
    assert engine.answers.find(streamed.messages[0].started.answer_id, "anonymous").text == streamed.text
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, Prompt)] == []


async def test_bytes_that_are_no_message_are_an_invalid_request(engine: RunningEngine) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
        call: Any = channel.unary_unary("/studyai.v1.ChatService/CompleteChatImage")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == "INVALID_REQUEST"


async def test_text_as_picture_is_unreadable(engine: RunningEngine) -> None:
    streamed = await engine.stream(image=b"Solve 2x + 5 = 17")
    assert streamed.error is not None
    assert streamed.error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert streamed.reason == "IMAGE_UNREADABLE"


async def test_picture_over_three_mebibytes_is_too_large(engine: RunningEngine) -> None:
    streamed = await engine.stream(image=WORKSHEET + bytes(3 * 1024 * 1024))
    assert streamed.error is not None
    assert streamed.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert streamed.reason == "PAYLOAD_TOO_LARGE"


async def test_full_engine_refuses_and_says_when_to_come_back(upstream: Upstream) -> None:
    upstream.default(up.silence())
    async with running_engine(upstream, max_concurrent_answers=1) as engine:
        held = engine.stub.ChatImage(request())
        await held.read()
        streamed = await engine.stream()
        assert streamed.error is not None
        assert streamed.error.code() is grpc.StatusCode.UNAVAILABLE
        assert streamed.reason == "OVERLOADED"
        wait = retry_info(streamed.error)
        assert wait is not None
        assert wait.retry_delay.ToMilliseconds() == 1000
        held.cancel()


async def test_providers_pause_is_passed_on(engine: RunningEngine, upstream: Upstream) -> None:
    upstream.script(up.refusal(429, headers={"Retry-After": "17"}))
    streamed = await engine.stream()
    assert streamed.error is not None
    wait = retry_info(streamed.error)
    assert wait is not None
    assert wait.retry_delay.ToMilliseconds() == 17_000


async def test_request_id_comes_back(engine: RunningEngine) -> None:
    call = engine.stub.ChatImage(request(), metadata=(("x-request-id", "call-7"),))
    assert dict(await call.initial_metadata())["x-request-id"] == "call-7"
    call.cancel()
    other = engine.stub.ChatImage(request())
    assert len(str(dict(await other.initial_metadata())["x-request-id"])) == 32
    other.cancel()


async def test_health_and_reflection_are_served(engine: RunningEngine) -> None:
    assert await engine.serving("")
    assert await engine.serving("studyai.v1.ChatService")
    found = await asyncio.to_thread(_reflected, engine.port)
    assert "studyai.v1.ChatService" in found


def _reflected(port: int) -> list[str]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("studyai.v1.ChatService")
        assert service.methods[0].name == "ChatImage"
        return list(database.get_services())


async def test_answers_of_a_stopping_engine_end_with_draining(upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
    async with running_engine(upstream) as engine:
        messages = aiter(engine.stub.ChatImage(request()))
        assert [(await anext(messages)).sequence, (await anext(messages)).sequence] == [0, 1]
        stopping = asyncio.ensure_future(engine.stop(grace=0))
        streamed = await read(messages)
        await stopping
    assert streamed.reason == "DRAINING"
    await (await upstream.request(0)).closed.within()


async def test_answers_in_time_are_finished_by_a_stopping_engine(upstream: Upstream) -> None:
    more = up.Signal()
    upstream.script(up.stream_headers(), up.chunk("Hi"), up.gate(more), up.chunk(" there"), up.finish(), up.done())
    async with running_engine(upstream) as engine:
        messages = aiter(engine.stub.ChatImage(request()))
        assert [(await anext(messages)).sequence, (await anext(messages)).sequence] == [0, 1]
        health: Any = health_pb2_grpc.HealthStub(engine.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        stopping = asyncio.ensure_future(engine.stop(grace=5))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        more.set()
        streamed = await read(messages)
        await stopping
    assert streamed.text == " there"
    assert streamed.finished is not None

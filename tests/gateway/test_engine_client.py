"""How calls are spread over several engines, and what becomes of them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2
from studyai.v1 import chat_pb2

from sse_gateway.channel import EngineAccess
from sse_gateway.engine import CallOptions, EngineClient
from sse_gateway.engine_url import engine_targets
from sse_gateway.errors import ErrorCode, GatewayError
from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.fake_engine import FakeEngine, failure, fake_engine
from tests.gateway.wire import FALLBACK, STREAM, connect
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER = chat_pb2.CompleteChatImageResponse(text="42")


async def answer(gateway: RunningGateway, engine: FakeEngine) -> int:
    """Lets this engine, and no other, answer a question; returns the HTTP status."""
    async with gateway.post(FALLBACK) as client:
        call = await engine.next_call()
        await call.accept()
        call.close(ANSWER)
        await client.read_head()
        return client.status


async def first_asked(engines: list[FakeEngine]) -> int:
    """Answers the question that one of the engines gets; returns which."""
    waiting = [asyncio.ensure_future(engine.next_call()) for engine in engines]
    (asked,), others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    asked.result().close(ANSWER)
    return waiting.index(asked)


async def asked_engine(engines: list[FakeEngine]) -> FakeEngine:
    """Waits for the engine that gets the question."""
    await until(lambda: any(not engine.idle for engine in engines))
    return next(engine for engine in engines if not engine.idle)


async def test_several_engines_are_asked_in_turn() -> None:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(fake_engine()) for _ in range(2)]
        urls = ",".join(engine.url for engine in engines)
        gateway = await stack.enter_async_context(running_gateway(urls))
        await gateway.until_ready()
        assert sorted(await _asked_of(gateway, engines, 6)) == [0, 0, 0, 1, 1, 1]


async def test_engine_that_is_down_is_passed_over() -> None:
    async with fake_engine() as gone:
        url = gone.url
    async with fake_engine() as engine, running_gateway(f"{url},{engine.url}") as gateway:
        await gateway.until_ready()
        assert [await answer(gateway, engine) for _ in range(4)] == [200] * 4


async def test_engine_that_is_connected_but_not_serving_is_passed_over() -> None:
    async with (
        fake_engine() as unwell,
        fake_engine() as engine,
        running_gateway(f"{unwell.url},{engine.url}") as gateway,
    ):
        await gateway.until_ready()
        await unwell.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        async with asyncio.timeout(5):
            while await _asked_of(gateway, [unwell, engine], 4) != [1] * 4:
                pass


async def _asked_of(gateway: RunningGateway, engines: list[FakeEngine], times: int) -> list[int]:
    asked = []
    for _ in range(times):
        async with gateway.post(FALLBACK) as client:
            asked.append(await first_asked(engines))
            await client.read_head()
    return asked


async def test_call_after_the_draining_is_refused() -> None:
    async with fake_engine() as engine, EngineClient(engine_targets(engine.url), EngineAccess()) as client:
        client.drain()
        with pytest.raises(GatewayError) as refused:
            await anext(client.stream(chat_pb2.ChatImageRequest(), CallOptions("req-1")))
        assert refused.value.code is ErrorCode.DRAINING
        with pytest.raises(GatewayError):
            await client.complete(chat_pb2.CompleteChatImageRequest(), CallOptions("req-2"))


async def test_all_addresses_of_a_name_are_one_engine_to_ask() -> None:
    async with fake_engine() as engine:
        port = engine.url.rsplit(":", 1)[1]
        async with running_gateway(f"dns:///127.0.0.1:{port}") as gateway:
            assert await answer(gateway, engine) == 200


async def test_open_stream_does_not_keep_its_picture() -> None:
    request = chat_pb2.ChatImageRequest(question=chat_pb2.ImageQuestion(image=bytes(1024)))
    before = sys.getrefcount(request)
    async with fake_engine() as engine, EngineClient(engine_targets(engine.url), EngineAccess()) as client:
        messages = client.stream(request, CallOptions("req-6"))
        reading = asyncio.ensure_future(anext(messages))
        call = await engine.next_call()
        await call.start()
        await reading
        assert call.request == request
        assert sys.getrefcount(request) == before
        await messages.aclose()


@pytest.mark.parametrize("reason", ["OVERLOADED", "DRAINING", "ENGINE_UNAVAILABLE"])
@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_question_that_one_engine_refuses_is_answered_by_another(path: str, reason: str) -> None:
    async with fake_engine() as first, fake_engine() as second, running_gateway(f"{first.url},{second.url}") as gateway:
        await gateway.until_ready()
        async with gateway.post(path) as client:
            refusing = await asked_engine([first, second])
            (await refusing.next_call()).fail(failure(grpc.StatusCode.UNAVAILABLE, reason))
            call = await (second if refusing is first else first).next_call()
            assert call.request.question.prompt == "What is this?"
            await (call.start() if path == STREAM else call.accept())
            call.fail(failure(grpc.StatusCode.UNAVAILABLE, "UPSTREAM_TRUNCATED"))
            await client.read_head()
            assert b"UPSTREAM_TRUNCATED" in await client.read_body()


@pytest.mark.parametrize("reason", ["UPSTREAM_REJECTED", "INVALID_REQUEST", "INTERNAL"])
async def test_failure_that_every_engine_would_have_is_told_at_once(reason: str) -> None:
    async with fake_engine() as first, fake_engine() as second, running_gateway(f"{first.url},{second.url}") as gateway:
        await gateway.until_ready()
        async with gateway.post(STREAM) as client:
            refusing = await asked_engine([first, second])
            (await refusing.next_call()).fail(failure(grpc.StatusCode.UNKNOWN, reason))
            await client.read_head()
            assert (await client.read_json())["code"] == reason
        assert first.idle
        assert second.idle


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_question_that_was_accepted_is_not_asked_again(path: str) -> None:
    async with fake_engine() as first, fake_engine() as second, running_gateway(f"{first.url},{second.url}") as gateway:
        await gateway.until_ready()
        async with gateway.post(path) as client:
            engine = await asked_engine([first, second])
            call = await engine.next_call()
            await (call.start() if path == STREAM else call.accept())
            await engine.die()
            await client.read_head()
            assert b"ENGINE_UNAVAILABLE" in await client.read_body()
        assert first.idle
        assert second.idle


async def refuse(gateway: RunningGateway, engine: FakeEngine, attempts: int = 1) -> None:
    """Lets the engine say of a question, as often as it is asked, that it is full."""
    async with gateway.post(FALLBACK) as client:
        for _ in range(attempts):
            (await engine.next_call()).fail(failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED"))
        await client.read_head()
        assert (client.status, client.headers["retry-after"]) == (503, "1")


async def test_question_is_refused_unread_when_those_before_it_were_refused() -> None:
    async with fake_engine() as engine, running_gateway(engine.url) as gateway:
        for _ in range(3):
            await refuse(gateway, engine)
        async with connect(gateway.port) as client:
            await client.send_head("POST", STREAM, content_length="1000000")
            await client.read_head()
            reply = await client.read_json()
            assert (client.status, reply["code"], reply["fallback_endpoint"]) == (503, "OVERLOADED", FALLBACK)
        async with gateway.post(STREAM, idempotency_key="may-join") as client:
            call = await engine.next_call()
            assert call.metadata["x-may-join"] == "1"
            await call.start()
            await client.read_head()
            assert client.status == 200


async def test_question_that_met_a_full_engine_twice_is_no_word_for_all_engines_of_a_name() -> None:
    async with fake_engine() as engine, running_gateway(engine.url.replace("http://", "dns:///")) as gateway:
        for _ in range(2):
            await refuse(gateway, engine, attempts=2)
            await refuse(gateway, engine, attempts=2)
            assert await answer(gateway, engine) == 200


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_clients_time_out_is_the_calls_deadline(path: str) -> None:
    async with (
        fake_engine() as engine,
        running_gateway(engine.url) as gateway,
        gateway.post(path, x_request_timeout_ms="1000") as client,
    ):
        call = await engine.next_call()
        assert 0 < call.time_remaining <= 1.01  # gRPC sends it rounded up
        if path == STREAM:
            await call.start()
        await client.read_head()
        assert b"DEADLINE_EXCEEDED" in await client.read_body()
        async with asyncio.timeout(5):
            await call.cancelled.wait()


async def test_clients_time_out_runs_while_it_uploads() -> None:
    async with fake_engine() as engine, running_gateway(engine.url) as gateway, connect(gateway.port) as client:
        await client.send_head("POST", STREAM, content_length="1000", x_request_timeout_ms="100")
        await client.read_head()
        reply = await client.read_json()
        assert (client.status, reply["code"], reply["fallback_endpoint"]) == (504, "DEADLINE_EXCEEDED", FALLBACK)


@pytest.mark.parametrize("given", ["0", "-1", "soon", "1.5", "99999999999", "+5000", "1_000", "5000.0", "5000, 5000"])
async def test_time_out_that_is_none_is_refused_by_name(given: str) -> None:
    async with running_gateway() as gateway, gateway.post(STREAM, x_request_timeout_ms=given) as client:
        await client.read_head()
        assert client.status == 400
        assert "X-Request-Timeout-Ms" in (await client.read_json())["error"]


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_time_out_that_passes_at_any_moment_is_told_as_one(path: str) -> None:
    async def ask(gateway: RunningGateway, milliseconds: int) -> str:
        async with gateway.post(path, x_request_timeout_ms=str(milliseconds)) as client:
            await client.read_head()
            return str((await client.read_json())["code"])

    async with fake_engine() as engine, running_gateway(engine.url) as gateway:
        await gateway.until_ready()
        for _ in range(10):
            told = await asyncio.gather(*(ask(gateway, 1 + milliseconds) for milliseconds in range(20)))
            assert set(told) == {"DEADLINE_EXCEEDED"}

"""How calls are spread over several engines, and what becomes of them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest
from grpc_health.v1 import health_pb2
from studyai.v1 import chat_pb2

from sse_gateway.engine import EngineClient
from sse_gateway.engine_url import engine_targets
from sse_gateway.errors import ErrorCode, GatewayError
from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.fake_engine import FakeEngine, fake_engine
from tests.gateway.wire import FALLBACK

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER = chat_pb2.CompleteChatImageResponse(text="42")


async def answer(gateway: RunningGateway, engine: FakeEngine) -> int:
    """Lets this engine, and no other, answer a question; returns the HTTP status."""
    async with gateway.post(FALLBACK) as client:
        call = await engine.next_call()
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
    async with fake_engine() as engine, EngineClient(engine_targets(engine.url)) as client:
        client.drain()
        with pytest.raises(GatewayError) as refused:
            await anext(client.stream(chat_pb2.ChatImageRequest(), "req-1"))
        assert refused.value.code is ErrorCode.DRAINING
        with pytest.raises(GatewayError):
            await client.complete(chat_pb2.CompleteChatImageRequest(), "req-2")


async def test_all_addresses_of_a_name_are_one_engine_to_ask() -> None:
    async with fake_engine() as engine:
        port = engine.url.rsplit(":", 1)[1]
        async with running_gateway(f"dns:///127.0.0.1:{port}") as gateway:
            assert await answer(gateway, engine) == 200


async def test_open_stream_does_not_keep_its_picture() -> None:
    request = chat_pb2.ChatImageRequest(question=chat_pb2.ImageQuestion(image=bytes(1024)))
    before = sys.getrefcount(request)
    async with fake_engine() as engine, EngineClient(engine_targets(engine.url)) as client:
        messages = client.stream(request, "req-6")
        reading = asyncio.ensure_future(anext(messages))
        call = await engine.next_call()
        await call.start()
        await reading
        assert call.request == request
        assert sys.getrefcount(request) == before
        await messages.aclose()

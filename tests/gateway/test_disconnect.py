"""Who leaves is not worked for any longer: the engine sees the cancellation within 250 ms, in every phase."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.wire import FALLBACK, STREAM, connect, encoded, events_in, question

if TYPE_CHECKING:
    from tests.gateway.fake_engine import EngineCall, FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 0.25


async def assert_cancelled(call: EngineCall) -> None:
    async with asyncio.timeout(AT_ONCE):
        await call.cancelled.wait()


async def test_leaving_during_the_upload_asks_the_engine_nothing(gateway: RunningGateway, engine: FakeEngine) -> None:
    body = encoded(question())
    async with connect(gateway.port) as client:
        await client.send_head("POST", STREAM, content_length=str(len(body)))
        client.writer.write(body[:-1])
        await client.writer.drain()
        await gateway.until_busy()
    await gateway.rest()
    assert engine.idle


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_leaving_before_the_first_message_cancels_the_call(
    gateway: RunningGateway, engine: FakeEngine, path: str
) -> None:
    async with gateway.post(path):
        call = await engine.next_call()
    await assert_cancelled(call)


async def test_leaving_after_a_body_that_came_faster_than_it_was_read_cancels_the_call(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    body, last = encoded(question(base64_image="A" * 2_000_000)), 200_000
    async with connect(gateway.port) as client:
        await client.send_head("POST", STREAM, content_length=str(len(body)))
        client.writer.write(body[:-last])
        await gateway.until_held(len(body) - last)
        client.writer.write(body[-last:])
        call = await engine.next_call()
    await assert_cancelled(call)


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_resetting_the_connection_cancels_the_call(
    gateway: RunningGateway, engine: FakeEngine, path: str
) -> None:
    async with gateway.post(path) as client:
        call = await engine.next_call()
        client.reset()
        await assert_cancelled(call)


async def test_leaving_after_the_start_cancels_the_call(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.streaming(engine) as (_, call):
        pass
    await assert_cancelled(call)


async def test_leaving_amid_the_text_cancels_the_call(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await call.text("This", " is")
        await client.read_head()
        await client.read_event()
    await assert_cancelled(call)


async def test_leaving_with_a_full_socket_cancels_the_call(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.text(*["x" * 8192] * 100)
        client.reset()
        await assert_cancelled(call)


async def test_leaving_after_the_end_disturbs_nobody(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.finish()
        await client.read_body()
    await gateway.rest()
    assert not call.cancelled.is_set()


async def test_connection_serves_again_after_a_stream(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with connect(gateway.port) as client:
        for _ in range(2):
            await client.send("POST", STREAM, encoded(question()))
            call = await engine.next_call()
            await call.start()
            await client.read_head()
            await call.finish()
            assert events_in(await client.read_body())[-1]["type"] == "end"


async def test_client_that_takes_nothing_is_cut_off_without_a_last_event(engine: FakeEngine) -> None:
    settings: dict[str, Any] = {"write_stall_timeout_seconds": 0.2, "heartbeat_seconds": 0.05}
    async with running_gateway(engine.url, **settings) as gateway, connect(gateway.port, 4096) as client:
        await client.send("POST", STREAM, encoded(question()))
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.text(*["x" * 65536] * 60)
        async with asyncio.timeout(2):
            await call.cancelled.wait()
        await gateway.rest()
        # The server has let go of the connection, with all that was still to be written to it.
        assert not gateway.server.server_state.connections
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.read_body()
        assert b'"type":"end"' not in client.received
        assert b'"type":"error"' not in client.received

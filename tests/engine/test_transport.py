"""How a reply's body comes from the socket, apart from what is in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from engine_grpc import openai_upstream
from engine_grpc.openai_model import OpenAIModel
from engine_grpc.openai_transport import Body, Transport
from engine_grpc.wiring import fallback_options, model_options
from tests import upstream as up
from tests.engine.harness import engine_settings
from tests.upstream import Upstream
from tests.waiting import until

MEBIBYTE = 1024 * 1024
ONE_CHUNK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n%b\r\n"


def transport_to(base_url: str) -> Transport:
    return Transport(AsyncOpenAI(api_key="sk-x", base_url=base_url), max_connections=1, direct=False)


async def test_body_that_nobody_reads_for_a_while_is_held_up_and_whole_afterwards() -> None:
    sent = bytes(range(256)) * (32 * MEBIBYTE // 256)
    async with Upstream() as upstream:
        upstream.script(up.stream_headers(), up.raw(sent[: 8 * MEBIBYTE]), up.raw(sent[8 * MEBIBYTE :]))
        transport = transport_to(upstream.base_url)
        response = await transport.post(b"{}", {})
        await until(lambda: response.content.total_bytes > MEBIBYTE // 2)
        body, received = Body(response), bytearray()
        while piece := await body.read():
            assert len(piece) <= MEBIBYTE
            received += piece
        assert received == sent
        await transport.aclose()


@pytest.mark.parametrize("broken", [b"zz\r\n", b"5\r\nhelloXX", b"-1\r\n", b"HTTP/1.1 502 Bad\r\n\r\n"])
async def test_body_whose_framing_is_broken_ends_at_once_behind_what_came_before(broken: bytes) -> None:
    async with Upstream() as upstream:
        read = asyncio.Event()
        upstream.script(up.wire(ONE_CHUNK % b"text"), up.gate(read), up.wire(broken), up.silence())
        transport = transport_to(upstream.base_url)
        body = Body(await transport.post(b"{}", {}))
        async with asyncio.timeout(5):
            assert await body.read() == b"text"
            read.set()
            while await body.read():
                pass
        body.close()
        await transport.aclose()


async def test_response_that_nobody_asked_for_is_no_answer_to_the_next_request() -> None:
    async with Upstream() as upstream:
        unasked, read = ONE_CHUNK % b"lies" + b"0\r\n\r\n", asyncio.Event()
        upstream.script(up.wire(ONE_CHUNK % b"text"), up.gate(read), up.wire(b"0\r\n\r\n" + unasked), up.silence())
        upstream.script(up.wire(ONE_CHUNK % b"true" + b"0\r\n\r\n"), up.silence())
        transport = transport_to(upstream.base_url)
        for expected in (b"text", b"true"):
            body = Body(await transport.post(b"{}", {}))
            assert await body.read() == expected
            read.set()
            assert await body.read() == b""
            body.close()
        await transport.aclose()


async def test_request_that_is_cancelled_while_it_is_sent_lets_go_of_its_connection_at_once() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def take_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it can be read
        begun.set()
        await over.wait()
        writer.transport.abort()

    async with await asyncio.start_server(take_nothing, "127.0.0.1", 0) as server:
        transport = transport_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        posting = asyncio.ensure_future(transport.post(bytes(32 * MEBIBYTE), {}))
        async with asyncio.timeout(10):
            await begun.wait()
        connected = open_files()
        posting.cancel()
        await until(lambda: open_files() < connected)
        over.set()
        await transport.aclose()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_sdks_own_client_is_closed_with_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AsyncOpenAI] = []

    def make(**options: Any) -> AsyncOpenAI:
        made.append(AsyncOpenAI(**options))
        return made[-1]

    monkeypatch.setattr(openai_upstream, "AsyncOpenAI", make)
    settings = engine_settings(openai_fallback_model="second")
    model = OpenAIModel(model_options(settings, None, "first"), fallback_options(settings))
    await model.aclose()
    assert [client.is_closed() for client in made] == [True, True]

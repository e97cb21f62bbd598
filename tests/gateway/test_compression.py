"""Compressed streams: every write can be decoded when it is there, by decoders that are not ours."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import zlib
from typing import TYPE_CHECKING

import brotli
import pytest
import zstandard

from sse_gateway.compression import negotiated
from tests.gateway.conftest import RunningGateway, gateway_with
from tests.gateway.wire import PATIENCE, STREAM, event_data, events_in, question

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.fake_engine import FakeEngine

MODULES_OF_A_STREAM = ("sse_gateway.compression", "sse_gateway.sse", "sse_gateway.live", "sse_gateway.events")
"""Whose objects are each one stream's."""

module_loop = pytest.mark.asyncio(loop_scope="module")

DECODERS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
    "br": lambda: brotli.Decompressor().process,
    "gzip": lambda: zlib.decompressobj(31).decompress,
}


@module_loop
@pytest.mark.parametrize("coding", DECODERS)
async def test_each_delta_can_be_decoded_before_the_next_is_written(
    gateway: RunningGateway, engine: FakeEngine, coding: str
) -> None:
    async with gateway.post(STREAM, accept_encoding=coding) as client:
        client.decode = DECODERS[coding]()
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert client.headers["content-encoding"] == coding
        assert event_data(await client.read_event())["type"] == "start"
        for number in range(1, 4):
            await call.text("so ")
            assert event_data(await client.read_event())["content"] == "so " * number
        await call.finish()
        assert event_data(await client.read_event())["type"] == "end"
        assert await client.read_body() == b""


@module_loop
@pytest.mark.parametrize("coding", DECODERS)
@pytest.mark.parametrize("read", ["to the end", "in part"])
async def test_stream_that_is_over_holds_nothing(
    gateway: RunningGateway, engine: FakeEngine, coding: str, read: str
) -> None:
    gc.disable()  # A full collection may be thousands of streams away, and does not know how much a compressor holds.
    try:
        async with gateway.post(STREAM, accept_encoding=coding) as client:
            call = await engine.next_call()
            await call.start()
            await client.read_head()
            if read == "to the end":
                await call.finish()
                await client.read_body()
        await gateway.rest()
        held = [kept for kept in gc.get_objects() if type(kept).__module__ in MODULES_OF_A_STREAM]
    finally:
        gc.enable()
    assert not held


@module_loop
@pytest.mark.parametrize("coding", DECODERS)
async def test_long_answer_is_the_same_compressed_and_a_fraction_of_the_size(
    gateway: RunningGateway, engine: FakeEngine, coding: str
) -> None:
    sizes, streams = [], []
    for accepted in ("identity", coding):
        async with gateway.post(STREAM, accept_encoding=accepted) as client:
            call = await engine.next_call()
            await call.start()
            await client.read_head()
            decode = bytes if accepted == "identity" else DECODERS[coding]()
            size = 0

            def counted(chunk: bytes, decode: Callable[[bytes], bytes] = decode) -> bytes:
                nonlocal size
                size += len(chunk)
                return decode(chunk)

            client.decode = counted
            stream = await client.read_event()
            for number in range(300):
                await call.text(f" w{number * 7919 % 1000}")
                stream += await client.read_event()
            await call.finish()
            stream += await client.read_body()
        sizes.append(size)
        streams.append(events_in(stream))
    assert streams[0] == streams[1]
    assert sizes[1] < sizes[0] / 15


@module_loop
async def test_silence_is_filled_in_a_compressed_stream_too(engine: FakeEngine) -> None:
    async with (
        gateway_with(engine, heartbeat_seconds=0.05) as gateway,
        gateway.post(STREAM, accept_encoding="zstd") as client,
    ):
        client.decode = DECODERS["zstd"]()
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await client.read_event()
        assert await client.read_event() == b": keep-alive\n\n"
        await call.finish()


@module_loop
async def test_setting_turns_compression_off(engine: FakeEngine) -> None:
    off = gateway_with(engine, enable_response_compression=False)
    async with off as gateway, gateway.post(STREAM, accept_encoding="zstd, br, gzip") as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert "content-encoding" not in client.headers
        await call.finish()
        assert [event["type"] for event in events_in(await client.read_body())] == ["start", "end"]


@module_loop
async def test_error_before_the_stream_is_plain_json(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, question(prompt=""), accept_encoding="zstd, gzip") as client:
        await client.read_head()
        assert "content-encoding" not in client.headers
        assert (await client.read_json())["code"] == "INVALID_REQUEST"


@module_loop
async def test_curl_decodes_a_stream(gateway: RunningGateway, engine: FakeEngine) -> None:
    command = ["curl", "-sN", "--compressed", "--max-time", str(PATIENCE), "--json", "@-", gateway.url + STREAM]
    asking = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    body = str(question()).replace("'", '"').encode()
    reading = asyncio.ensure_future(asking.communicate(body))
    call = await engine.next_call()
    await call.start()
    await call.text("So.")
    await call.finish()
    stream, _ = await reading
    assert [event["type"] for event in events_in(stream)][-2:] == ["content", "end"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("identity", None),
        ("deflate", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "gzip"),
        ("br, gzip;q=0.9", "br"),
        ("GZIP;Q=1.0", "gzip"),
        ("zstd;q=0.1, gzip;q=0.9", "gzip"),
        ("zstd;q=0, br;q=0.0, gzip ; q=0.5", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("identity;q=0.2, *;q=0.3", "zstd"),
        ("gzip;q=much", None),
        (",,;;=,", None),
    ],
)
def test_coding_is_the_one_that_the_client_likes_best(accepted: str, coding: str | None) -> None:
    assert negotiated(accepted) == coding

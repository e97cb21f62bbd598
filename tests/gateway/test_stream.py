from __future__ import annotations

import asyncio

import pytest
import requests
import zstandard
from studyai.v1 import chat_pb2

from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.fake_engine import FINISHED, FakeEngine
from tests.gateway.wire import PICTURE, STREAM, connect, event_data, events_in, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = (
    b'id: 0\ndata: {"type":"start","timestamp":"2025-10-07T10:30:00.123Z","model":"gpt-5.4-mini",'
    b'"answer_id":"0f4c9a6be1d24c0f9a3b7d5e8c1f2a6b","session_id":"chat-7"}\n\n'
)
END = (
    b'id: %d\ndata: {"type":"end","tokens":50,"finish_reason":"stop","processing_time_ms":2500,"content":"%s",'
    b'"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}\n\n'
)


async def test_each_delta_is_on_the_wire_before_the_next_is_written(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert await client.read_event() == START
        await call.text("This")
        assert await client.read_event() == b'id: 1\ndata: {"type":"content","content":"This","delta":"This"}\n\n'
        await call.text(" is")
        assert await client.read_event() == b'id: 2\ndata: {"type":"content","content":"This is","delta":" is"}\n\n'
        await call.finish()
        assert await client.read_event() == END % (3, b"This is")
        assert await client.read_body() == b""


async def test_head_is_the_documented_one(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, x_request_id="req-1") as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.finish()
    assert client.status == 200
    del client.headers["date"]
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "vary": "accept-encoding",
        "x-request-id": "req-1",
        "transfer-encoding": "chunked",
    }


async def test_head_waits_for_the_engines_first_message(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        reading = asyncio.create_task(client.read_head())
        await call.write()  # An event that this gateway does not know is no first message.
        done, _ = await asyncio.wait({reading}, timeout=0.05)
        assert not done
        await call.start()
        await reading
        assert client.status == 200
        await call.finish()


async def test_question_reaches_the_engine_whole(gateway: RunningGateway, engine: FakeEngine) -> None:
    body = question(prompt="  Where?\n", subject="history", session_id="s-1", student_id="student:7")
    async with gateway.post(STREAM, body, x_request_id="req-2"):
        call = await engine.next_call()
        assert call.metadata["x-request-id"] == "req-2"
        assert call.request == chat_pb2.ChatImageRequest(
            question=chat_pb2.ImageQuestion(
                image=PICTURE, prompt="Where?", subject="history", session_id="s-1", student_id="student:7"
            )
        )
        await call.start()
        await call.finish()


@pytest.mark.parametrize("path", ["/api/ai/chat-image-stream", "/api/v1/chat-image-stream"])
async def test_both_paths_stream(gateway: RunningGateway, engine: FakeEngine, path: str) -> None:
    async with gateway.post(path) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.finish()
        assert await client.read_body() == START + END % (1, b"")


@pytest.mark.parametrize(
    "pieces",
    [
        ['Say "hi"', "\n", "back\\slash", "\ttab"],
        ["line\u2028separator", "paragraph\u2029", "next\u0085line", "\u0000\u001f"],
        ["👩‍🔬", "🇨🇭", "e\u0301", "\U0001d538"],
        ["圆周率", "は", "3.14", "です", "مرحبا"],
        [r"$\frac{1}{2}", r"\cdot \mathbf{x}^{2}$", "\\", "u0041"],
    ],
)
async def test_text_arrives_exactly_in_ascii_json_of_one_line(
    gateway: RunningGateway, engine: FakeEngine, pieces: list[str]
) -> None:
    async with gateway.streaming(engine) as (client, call):
        for count, piece in enumerate(pieces, 1):
            await call.text(piece)
            event = await client.read_event()
            assert event.isascii()
            assert event.count(b"\n") == 3
            assert event_data(event) == {"type": "content", "content": "".join(pieces[:count]), "delta": piece}
        await call.finish()
        assert event_data(await client.read_event())["content"] == "".join(pieces)


async def test_without_accumulation_content_comes_at_the_end_alone(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, question(accumulate=False)) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert await client.read_event() == START
        await call.text("This")
        assert await client.read_event() == b'id: 1\ndata: {"type":"content","delta":"This"}\n\n'
        await call.text(" is")
        assert await client.read_event() == b'id: 2\ndata: {"type":"content","delta":" is"}\n\n'
        await call.finish()
        assert await client.read_event() == END % (3, b"This is")


async def test_numbers_are_the_engines(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.streaming(engine) as (client, call):
        await call.write(sequence=7, text_delta=chat_pb2.TextDelta(text="joined"))
        assert (await client.read_event()).startswith(b"id: 7\n")
        await call.write(sequence=9)  # not known here: skipped
        await call.write(sequence=12, finished=FINISHED)
        assert (await client.read_event()).startswith(b"id: 12\n")
        call.close()


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "stop"), (2, "length"), (3, "content_filter"), (4, "stopped"), (0, "stop"), (99, "stop")],
)
async def test_finish_reasons_have_their_names(
    gateway: RunningGateway, engine: FakeEngine, number: int, name: str
) -> None:
    finished = chat_pb2.AnswerFinished.FromString(b"\x08" + bytes([number]))
    async with gateway.streaming(engine) as (client, call):
        await call.finish(finished)
        assert event_data(await client.read_event())["finish_reason"] == name


async def test_estimated_usage_says_so(gateway: RunningGateway, engine: FakeEngine) -> None:
    usage = chat_pb2.TokenUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7, estimated=True)
    async with gateway.streaming(engine) as (client, call):
        await call.finish(chat_pb2.AnswerFinished(usage=usage))
        end = event_data(await client.read_event())
    assert end["tokens"] == 7
    assert end["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "estimated": True}


async def test_end_does_not_wait_for_the_engine_to_close_the_call(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.write(finished=FINISHED)
        assert (await client.read_body()).endswith(END % (1, b""))
        async with gateway.get("/readyz"):  # there and back: a cancellation would have overtaken it
            assert not call.cancelled.is_set()
        call.close()


async def test_end_stands_whatever_the_engine_does_after_it(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.write(finished=FINISHED)
        await call.text("more")
        assert await client.read_body() == START + END % (1, b"")


async def test_slow_client_gets_fewer_and_larger_events_and_the_whole_text(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    pieces = [f"<{number}>".ljust(4096, ".") for number in range(300)]
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        async with asyncio.timeout(5):
            await call.text(*pieces)  # Nobody reads: the engine is not held up by that.
        await call.finish()
        events = events_in(await client.read_body())
    contents = [event for event in events if event["type"] == "content"]
    assert len(contents) < len(pieces) / 2
    assert "".join(event["delta"] for event in contents) == "".join(pieces)
    assert contents[-1]["content"] == events[-1]["content"] == "".join(pieces)


async def test_idle_stream_is_kept_alive_by_comments(engine: FakeEngine) -> None:
    async with running_gateway(engine.url, heartbeat_seconds=0.05) as gateway, gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert await client.read_event() == START
        assert await client.read_event() == b": keep-alive\n\n"
        assert await client.read_event() == b": keep-alive\n\n"
        await call.text("This")
        assert event_data(await client.read_event())["delta"] == "This"
        assert await client.read_event() == b": keep-alive\n\n"
        await call.finish()
        assert events_in(await client.read_body())[-1]["content"] == "This"


@pytest.mark.parametrize("coding", ["identity", "zstd"])
async def test_stream_that_goes_on_where_nothing_is_new_has_its_head_and_comments(
    engine: FakeEngine, coding: str
) -> None:
    asked = {"accept": "text/event-stream", "last_event_id": "1", "accept_encoding": coding}
    async with running_gateway(engine.url, heartbeat_seconds=2) as gateway, connect(gateway.port) as client:
        await client.send("GET", "/api/ai/answers/0f4c", **asked)
        call = await engine.next_call()
        await call.start()
        await call.text("This")
        begun = asyncio.get_running_loop().time()
        await client.read_head()
        assert asyncio.get_running_loop().time() - begun < 1.5  # and not with the first comment
        if coding == "zstd":
            client.decode = zstandard.ZstdDecompressor().decompressobj().decompress
        assert await client.read_event() == b": keep-alive\n\n"
        await call.text(" is")
        assert event_data(await client.read_event())["delta"] == " is"
        await call.finish()
        assert events_in(await client.read_body())[-1]["content"] == "This is"


async def test_line_reader_of_requests_prints_deltas_as_they_come(gateway: RunningGateway, engine: FakeEngine) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with requests.post(gateway.url + STREAM, json=question(), stream=True, timeout=5) as response:
            for line in response.iter_lines(chunk_size=1):
                if line.startswith(b"data: "):
                    loop.call_soon_threadsafe(seen.put_nowait, line.decode())

    reading = asyncio.create_task(asyncio.to_thread(read))
    call = await engine.next_call()
    await call.start()
    async with asyncio.timeout(5):
        assert '"start"' in await seen.get()
        await call.text("One")
        assert '"delta":"One"' in await seen.get()
        await call.text(" two")
        assert '"delta":" two"' in await seen.get()
        await call.finish()
        assert '"end"' in await seen.get()
        await reading

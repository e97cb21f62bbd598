"""The process: how it ends, and what it has logged by then."""

from __future__ import annotations

import base64
import json
import signal
from typing import TYPE_CHECKING

import grpc
import pytest
from studyai.v1.chat_pb2 import CompleteChatImageResponse, StopAnswerResponse

from tests.gateway.fake_engine import STARTED, FakeEngine, failure
from tests.gateway.process import gateway_process
from tests.gateway.wire import FALLBACK, STREAM, Connection, connect, encoded, event_data, question
from tests.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT, STUDENT, SESSION, PICTURE, TEXT = (
    f"canary-{name}" for name in ("prompt", "student", "session", "picture", "text")
)
BODY = encoded(
    question(
        base64_image=base64.b64encode(PICTURE.encode()).decode(),
        prompt=PROMPT,
        student_id=STUDENT,
        session_id=SESSION,
        subject="canary-subject",
    )
)
STOPS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("stop", STOPS)
async def test_idle_gateway_ends_at_once_and_well(tmp_path: Path, stop: signal.Signals) -> None:
    async with gateway_process(tmp_path) as gateway, connect(gateway.port) as client:
        await client.send("GET", "/healthz")
        await client.read_head()
        gateway.signal(stop)
        assert await gateway.end() == 0
        assert "Traceback" not in gateway.output


async def test_answers_that_outlast_the_draining_are_told_so(tmp_path: Path, engine: FakeEngine) -> None:
    settings = {"AI_ENGINE_URL": engine.url, "DRAIN_SECONDS": "0.3"}
    async with (
        gateway_process(tmp_path, **settings) as gateway,
        connect(gateway.port) as stream,
        connect(gateway.port) as fallback,
    ):
        await stream.send("POST", STREAM, BODY)
        call = await engine.next_call()
        await call.start()
        await stream.read_head()
        await stream.read_event()
        await fallback.send("POST", FALLBACK, BODY)
        await engine.next_call()
        gateway.signal(signal.SIGTERM)
        told = event_data(await stream.read_event())
        assert (told["type"], told["code"], told["retryable"]) == ("error", "DRAINING", True)
        await fallback.read_head()
        assert (fallback.status, json.loads(await fallback.read_body())["code"]) == (503, "DRAINING")
        assert await gateway.end() == 0
        assert [record for record in gateway.records if record["level"] == "error"] == []


@pytest.mark.parametrize("stop", STOPS)
async def test_running_answer_may_end_before_the_gateway_does(
    tmp_path: Path, engine: FakeEngine, stop: signal.Signals
) -> None:
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url) as gateway, connect(gateway.port) as client:
        await client.send("POST", STREAM, BODY)
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await client.read_event()
        gateway.signal(stop)
        await gateway.until("draining")
        await call.text("Whole")
        assert event_data(await client.read_event())["delta"] == "Whole"
        await call.finish()
        assert event_data(await client.read_body())["content"] == "Whole"
        assert await gateway.end() == 0


async def test_draining_gateway_says_so_to_who_asks_and_finishes_what_it_has(
    tmp_path: Path, engine: FakeEngine
) -> None:
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url) as gateway, connect(gateway.port) as client:
        await client.send("POST", STREAM, BODY)
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await client.read_event()
        gateway.signal(signal.SIGTERM)
        await gateway.until("draining")
        async with connect(gateway.port) as probe:
            await probe.send("GET", "/readyz")
            await probe.read_head()
            assert (probe.status, "draining" in (await probe.read_json())["failed"]) == (503, True)
        async with connect(gateway.port) as late:
            await late.send_head("POST", STREAM, content_length="3000000")
            await late.read_head()
            assert (late.status, late.headers["connection"], late.headers["retry-after"]) == (503, "close", "1")
            assert (await late.read_json())["code"] == "DRAINING"
        await call.finish()
        assert event_data(await client.read_body())["type"] == "end"
        assert await gateway.end() == 0


async def test_signal_has_the_state_logged(tmp_path: Path, engine: FakeEngine) -> None:
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url) as gateway, connect(gateway.port) as client:
        await client.send("POST", STREAM, BODY)
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        gateway.signal(signal.SIGUSR1)
        await gateway.until('"state"')
        (state,) = [record for record in gateway.records if record["event"] == "state"]
        assert (state["requests"], state["connections"], state["draining"]) == (1, 1, False)


@pytest.mark.parametrize("stop", STOPS)
async def test_second_signal_ends_the_gateway_now(tmp_path: Path, engine: FakeEngine, stop: signal.Signals) -> None:
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url) as gateway, connect(gateway.port) as client:
        await client.send("POST", STREAM, BODY)
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        gateway.signal(stop)
        await gateway.until("draining")
        gateway.signal(stop)
        await gateway.end()
        await call.cancelled.wait()


async def test_answers_that_outlast_the_drain_are_cut(tmp_path: Path, engine: FakeEngine) -> None:
    async with (
        gateway_process(tmp_path, AI_ENGINE_URL=engine.url, DRAIN_SECONDS="0") as gateway,
        connect(gateway.port) as client,
    ):
        await client.send("POST", STREAM, BODY)
        call = await engine.next_call()
        gateway.signal(signal.SIGTERM)
        assert await gateway.end() == 0
        await call.cancelled.wait()


async def test_each_request_is_one_line_that_tells_its_end(tmp_path: Path, engine: FakeEngine) -> None:
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url) as gateway:
        async with connect(gateway.port) as client:
            await client.send("POST", STREAM, BODY, x_request_id="whole")
            call = await engine.next_call()
            await call.start()
            await call.text(TEXT)
            await call.finish()
            await client.read_head()
            await client.read_body()
        async with connect(gateway.port) as client:
            await client.send("POST", STREAM, BODY, x_request_id="left")
            call = await engine.next_call()
            await call.start()
            await client.read_head()
        await call.cancelled.wait()
        async with connect(gateway.port) as client:
            await client.send("POST", STREAM, BODY, x_request_id="left-early")
            call = await engine.next_call()
        await call.cancelled.wait()
        async with connect(gateway.port) as client:
            await client.send_head("POST", STREAM, x_request_id="left-uploading", content_length=str(len(BODY)))
        await gateway.until('"left-uploading"')
        async with connect(gateway.port) as client:
            await client.send("POST", "/api/v1/chat-image", BODY, x_request_id="failed")
            (await engine.next_call()).fail(failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED"))
            await client.read_head()
        async with connect(gateway.port) as client:
            await client.send("GET", "/answers/canary-path?canary=query", x_request_id="lost")
            await client.read_head()
        gateway.signal(signal.SIGTERM)
        await gateway.end()
        lines = {record["request_id"]: record for record in gateway.records if record["event"] == "request ended"}
    told = {key: (line["method"], line["route"], line["status"], line["outcome"]) for key, line in lines.items()}
    assert told == {
        "whole": ("POST", STREAM, 200, "completed"),
        "left": ("POST", STREAM, 200, "client_gone"),
        "left-early": ("POST", STREAM, None, "client_gone"),
        "left-uploading": ("POST", STREAM, None, "client_gone"),
        "failed": ("POST", "/api/v1/chat-image", 503, "OVERLOADED"),
        "lost": ("GET", None, 404, "INVALID_REQUEST"),
    }
    assert all(line["duration_ms"] >= 0 for line in lines.values())
    answers = {key for key, line in lines.items() if line["answer_id"] == STARTED.answer_id}
    assert answers == {"whole", "left"}


async def test_line_names_the_answer_that_was_told_fetched_or_stopped_but_none_that_there_is_not(
    tmp_path: Path, engine: FakeEngine
) -> None:
    answer = f"/api/ai/answers/{STARTED.answer_id}"
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url) as gateway:
        async with connect(gateway.port) as client:
            await client.send("POST", FALLBACK, BODY)
            (await engine.next_call()).close(CompleteChatImageResponse(started=STARTED))
            await client.read_head()
            await client.read_body()
            await client.send("GET", answer)
            call = await engine.next_call()
            await call.start()
            await call.finish()
            await client.read_head()
            await client.read_body()
            await client.send("DELETE", answer)
            (await engine.next_call()).close(StopAnswerResponse())
            await client.read_head()
            await client.send("GET", "/api/ai/answers/canary")
            (await engine.next_call()).fail(failure(grpc.StatusCode.NOT_FOUND, "ANSWER_NOT_FOUND"))
            await client.read_head()
        gateway.signal(signal.SIGTERM)
        await gateway.end()
        named = [record["answer_id"] for record in gateway.records if record["event"] == "request ended"]
    assert named == [STARTED.answer_id] * 3 + [None]


async def test_engine_that_is_gone_is_named_in_the_log_of_the_request(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    async with gateway_process(tmp_path, AI_ENGINE_URL=f"http://{nowhere}") as gateway, connect(gateway.port) as client:
        await client.send("POST", FALLBACK, BODY, x_request_id="lost")
        await client.read_head()
        gateway.signal(signal.SIGTERM)
        await gateway.end()
        told = [record for record in gateway.records if record["event"] == "an engine did not answer"]
    assert [(record["engine"], record["request_id"], record["level"]) for record in told] == [
        (f"dns:///{nowhere}", "lost", "warning")
    ]


async def test_log_holds_nothing_of_what_students_send_and_get(tmp_path: Path, engine: FakeEngine) -> None:
    async with gateway_process(tmp_path, AI_ENGINE_URL=engine.url, LOG_LEVEL="debug") as gateway:
        async with connect(gateway.port) as client:
            await every_kind_of_request(client, engine)
        gateway.signal(signal.SIGTERM)
        await gateway.end()
        assert len([record for record in gateway.records if record["event"] == "request ended"]) == 8
        assert "canary" not in gateway.output
        assert base64.b64encode(PICTURE.encode()).decode() not in gateway.output


async def every_kind_of_request(client: Connection, engine: FakeEngine) -> None:
    for bad in (BODY[:-5], BODY.replace(STUDENT.encode(), b"canary-student/"), BODY.replace(b"Y2Fu", b"*anary")):
        await client.send("POST", STREAM, bad)
        await client.read_head()
        await client.read_body()
    for reason in ("INVALID_REQUEST", "INTERNAL", None):
        await client.send("POST", FALLBACK, BODY)
        (await engine.next_call()).fail(failure(grpc.StatusCode.UNKNOWN, reason, f"engine says {PROMPT}"))
        await client.read_head()
        await client.read_body()
    for orderly in (True, False):
        await client.send("POST", STREAM, BODY)
        call = await engine.next_call()
        await call.start()
        await call.text(TEXT)
        await (call.finish() if orderly else call.start())
        await client.read_head()
        await client.read_body()

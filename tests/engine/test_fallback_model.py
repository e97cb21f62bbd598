"""Where the first model fails before its first word, a second one answers; whichever writes is named in the start."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs
from studyai.v1 import chat_pb2

from tests import upstream as up
from tests.engine.harness import FIRST, SECOND, Two, complete_request, engine_with_fallback, request, retry_info

OPEN = up.stream_headers()
NO_SECOND_TRY = {"Retry-After": "60"}

FAILURES: dict[str, list[Any]] = {
    "429": [up.refusal(429)],
    "429 with a pause": [up.refusal(429, headers=NO_SECOND_TRY)],
    "500": [up.refusal(500)],
    "503 with a pause": [up.refusal(503, headers=NO_SECOND_TRY)],
    "401": [up.refusal(401)],
    "403": [up.refusal(403)],
    "reset": [up.reset()],
    "end before the first token": [OPEN, up.role(), up.close()],
    "an error object": [OPEN, up.role(), up.error_object()],
    "HTML": [up.html(200)],
    "a redirect": [up.reply(302, headers={"Location": "http://127.0.0.1:9/"})],
    "not JSON": [OPEN, up.raw(b"data: {oops\n\n")],
    "silence": [up.silence()],
    "silence after the head": [OPEN, up.role(), up.silence()],
}


@pytest.mark.parametrize("steps", FAILURES.values(), ids=FAILURES)
async def test_failure_before_the_first_token_is_answered_by_the_fallback_and_start_names_it(
    two: Two, steps: list[Any]
) -> None:
    two.primary.default(*steps)
    async with engine_with_fallback(two, first_token_timeout_seconds=2) as engine:
        streamed = await engine.stream()
        whole = await engine.stub.CompleteChatImage(complete_request())
    assert streamed.error is None
    assert streamed.text == whole.text == "Hello again"
    assert [message.WhichOneof("event") for message in streamed.messages].count("started") == 1
    assert streamed.messages[0].started.model == whole.started.model == SECOND
    assert {asked.json["model"] for asked in two.primary.requests} == {FIRST}
    assert {asked.json["model"] for asked in two.fallback.requests} == {SECOND}


async def test_server_that_cannot_be_reached_is_replaced(two: Two) -> None:
    async with up.Upstream() as gone:
        pass
    async with engine_with_fallback(Two(gone, two.fallback)) as engine:
        streamed = await engine.stream()
    assert (streamed.text, streamed.messages[0].started.model) == ("Hello again", SECOND)


async def test_first_model_that_answers_is_named_and_the_fallback_not_asked(two: Two) -> None:
    two.primary.default(*up.answer("Hi"))
    async with engine_with_fallback(two) as engine:
        streamed = await engine.stream()
        whole = await engine.stub.CompleteChatImage(complete_request())
    assert streamed.messages[0].started.model == whole.started.model == FIRST
    assert streamed.text == whole.text == "Hi"
    assert two.asked == (2, 0)


async def test_hiccup_of_the_first_model_is_its_own_to_mend(two: Two) -> None:
    two.primary.script(up.refusal(503))
    two.primary.script(*up.answer("Hi"))
    async with engine_with_fallback(two) as engine:
        assert (await engine.stream()).messages[0].started.model == FIRST
    assert two.asked == (2, 0)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_question_that_the_first_model_refuses_is_not_taken_to_the_fallback(two: Two, status: int) -> None:
    two.primary.default(up.refusal(status))
    async with engine_with_fallback(two) as engine:
        streamed = await engine.stream()
    assert streamed.reason == "UPSTREAM_REJECTED"
    assert streamed.messages[0].started.model == FIRST
    assert two.asked == (1, 0)


async def test_refusal_inside_the_stream_is_not_taken_to_the_fallback_either(two: Two) -> None:
    two.primary.default(OPEN, up.error_object(kind="content_policy_violation"))
    async with engine_with_fallback(two) as engine:
        assert (await engine.stream()).reason == "UPSTREAM_REJECTED"
    assert two.asked == (1, 0)


@pytest.mark.parametrize("broken", [[up.close()], [up.reset()], [up.error_object()], [up.silence()]])
async def test_answer_that_has_begun_is_never_begun_again_by_the_fallback(two: Two, broken: list[Any]) -> None:
    two.primary.default(OPEN, up.chunk("Hi"), *broken)
    async with engine_with_fallback(two, stall_timeout_seconds=0.3) as engine:
        streamed = await engine.stream()
    assert streamed.error is not None
    assert (streamed.text, streamed.messages[0].started.model) == ("Hi", FIRST)
    assert two.asked == (1, 0)


async def test_start_waits_for_the_first_token_where_there_is_a_fallback(two: Two) -> None:
    opening = up.Signal()
    two.primary.default(OPEN, up.role(), up.gate(opening), up.chunk("Hi"), up.finish(), up.done())
    async with engine_with_fallback(two) as engine:
        call = engine.stub.ChatImage(request())
        first = asyncio.ensure_future(call.read())
        await two.primary.request()
        assert not (await asyncio.wait({first}, timeout=0.3))[0]
        opening.set()
        message = await first
        assert isinstance(message, chat_pb2.ChatImageResponse)
        assert message.started.model == FIRST
        call.cancel()


@pytest.mark.parametrize("method", ["ChatImage", "CompleteChatImage"])
async def test_caller_that_leaves_before_the_start_closes_the_connection_to_the_fallback(two: Two, method: str) -> None:
    two.primary.default(up.refusal(401))
    two.fallback.default(up.silence())
    async with engine_with_fallback(two) as engine:
        asks = request() if method == "ChatImage" else complete_request()
        call = getattr(engine.stub, method)(asks)
        asked = await two.fallback.request()
        began = time.monotonic()
        call.cancel()
        await asked.closed.within()
        assert asked.closed_at is not None
        assert asked.closed_at - began < 0.25


async def test_silent_first_model_gets_half_of_the_time_and_the_fallback_the_rest(two: Two) -> None:
    two.primary.default(up.silence())
    two.fallback.default(up.silence())
    async with engine_with_fallback(two, first_token_timeout_seconds=1) as engine:
        began = time.monotonic()
        streaming = asyncio.ensure_future(engine.stream())
        await two.fallback.request()
        assert 0.45 < time.monotonic() - began < 0.95
        streamed = await streaming
        assert 0.95 < time.monotonic() - began < 1.5
    assert streamed.reason == "UPSTREAM_TIMEOUT"
    assert streamed.messages[0].started.model == FIRST


async def test_dead_first_model_is_passed_over_at_once(two: Two) -> None:
    two.primary.default(up.refusal(503, headers=NO_SECOND_TRY))
    async with engine_with_fallback(two) as engine:
        for _ in range(5):
            await engine.stream()
        with capture_logs() as logs:
            streamed = await engine.stream()
    assert (streamed.text, streamed.messages[0].started.model) == ("Hello again", SECOND)
    assert two.asked == (5, 6)
    assert [entry["code"] for entry in logs if "fallback" in entry["event"]] == ["UPSTREAM_UNAVAILABLE"]


class Both(NamedTuple):
    """How both fail, and what is told."""

    primary: Any
    fallback: Any
    code: str
    wait: float | None


BOTH_FAIL = {
    "the first one's failure": Both(up.refusal(503, headers=NO_SECOND_TRY), up.html(200), "UPSTREAM_UNAVAILABLE", 1),
    "the shorter wait": Both(
        up.refusal(429, headers=NO_SECOND_TRY),
        up.refusal(429, headers={"Retry-After": "7"}),
        "UPSTREAM_RATE_LIMITED",
        7,
    ),
    "a refusal of the question": Both(up.html(200), up.refusal(400), "UPSTREAM_REJECTED", None),
    "what may be tried again": Both(
        up.refusal(401), up.refusal(429, headers={"Retry-After": "9"}), "UPSTREAM_RATE_LIMITED", 9
    ),
    "a wait of the first alone": Both(
        up.refusal(429, headers=NO_SECOND_TRY), up.refusal(401), "UPSTREAM_RATE_LIMITED", 60
    ),
    "no hope": Both(up.refusal(401), up.refusal(403), "UPSTREAM_AUTH", None),
}


@pytest.mark.parametrize("case", BOTH_FAIL.values(), ids=BOTH_FAIL)
async def test_when_both_fail_start_names_the_first_and_the_more_useful_failure_is_told(two: Two, case: Both) -> None:
    two.primary.default(case.primary)
    two.fallback.default(case.fallback)
    async with engine_with_fallback(two) as engine:
        streamed = await engine.stream()
    assert [message.WhichOneof("event") for message in streamed.messages] == ["started"]
    assert streamed.messages[0].started.model == FIRST
    assert streamed.reason == case.code
    assert streamed.error is not None
    told = retry_info(streamed.error)
    assert (told.retry_delay.ToMilliseconds() / 1000 if told else None) == case.wait


async def test_usage_that_the_fallback_does_not_report_is_estimated_all_the_same(two: Two) -> None:
    two.fallback.default(*up.answer("Hello", usage=None))
    two.primary.default(up.refusal(401))
    async with engine_with_fallback(two) as engine:
        finished = (await engine.stream()).finished
    assert finished is not None
    assert finished.usage.estimated
    assert finished.usage.prompt_tokens > 85


async def test_busy_first_model_that_asks_for_no_pause_is_asked_again_before_the_fallback(two: Two) -> None:
    two.primary.script(up.refusal(429))
    two.primary.default(*up.answer("Hi"))
    async with engine_with_fallback(two) as engine:
        streamed = await engine.stream()
    assert (streamed.text, streamed.messages[0].started.model) == ("Hi", FIRST)
    assert two.asked == (2, 0)

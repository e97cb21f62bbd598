"""Where the first model fails before its first word, a second one answers; whichever writes is named in the start."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis
from structlog.testing import capture_logs
from studyai.v1 import chat_pb2

from engine_grpc.settings import faults
from engine_grpc.wiring import fallback_options, model_options
from tests import upstream as up
from tests.engine.harness import KEY, complete_request, engine_settings, request, retry_info, running_engine
from tests.engine.shared import ask, complete, engines, resume, stop
from tests.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.engine.harness import RunningEngine
    from tests.redis_server import RedisServer
    from tests.upstream import Upstream

FIRST, SECOND = "gpt-5.4-mini", "second-model"
OPEN = up.stream_headers()
NO_SECOND_TRY = {"Retry-After": "60"}


class Two(NamedTuple):
    """The servers."""

    primary: Upstream
    fallback: Upstream

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.primary.requests), len(self.fallback.requests)


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with up.Upstream() as primary, up.Upstream() as fallback:
        fallback.default(*up.answer("Hello", " again", usage=(3, 4)))
        yield Two(primary, fallback)


def second(two: Two) -> dict[str, Any]:
    """The settings that name the fallback."""
    return {"openai_fallback_base_url": two.fallback.base_url, "openai_fallback_model": SECOND}


@asynccontextmanager
async def engine_with_fallback(two: Two, **settings: Any) -> AsyncIterator[RunningEngine]:
    async with running_engine(two.primary, **second(two), **settings) as engine:
        yield engine


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


async def test_fallback_model_alone_is_asked_at_the_same_server_with_the_same_key(two: Two) -> None:
    two.primary.script(up.refusal(401))
    two.primary.script(*up.answer("Hi"))
    async with running_engine(two.primary, openai_fallback_model=SECOND) as engine:
        assert (await engine.stream()).messages[0].started.model == SECOND
    assert [asked.json["model"] for asked in two.primary.requests] == [FIRST, SECOND]
    assert {asked.headers["authorization"] for asked in two.primary.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("own", [None, "sk-fallback-key"])
async def test_fallback_server_alone_is_asked_for_the_same_model_and_never_told_the_first_ones_key(
    two: Two, own: str | None
) -> None:
    two.primary.default(up.refusal(503, headers=NO_SECOND_TRY))
    settings = {"openai_fallback_base_url": two.fallback.base_url, "openai_fallback_api_key": own}
    async with running_engine(two.primary, **settings) as engine:
        assert (await engine.stream()).messages[0].started.model == FIRST
    (asked,) = two.fallback.requests
    assert asked.json["model"] == FIRST
    assert asked.headers["authorization"] == f"Bearer {own or 'none'}"
    assert KEY not in str(asked.headers)


async def test_request_to_the_fallback_differs_in_the_model_alone(two: Two) -> None:
    two.primary.default(up.refusal(401))
    async with engine_with_fallback(two, openai_image_detail="low", openai_max_completion_tokens=7) as engine:
        await engine.stream()
    bodies = [upstream.requests[0].json for upstream in two]
    assert [body.pop("model") for body in bodies] == [FIRST, SECOND]
    assert bodies[0] == bodies[1]


async def test_usage_that_the_fallback_does_not_report_is_estimated_all_the_same(two: Two) -> None:
    two.fallback.default(*up.answer("Hello", usage=None))
    two.primary.default(up.refusal(401))
    async with engine_with_fallback(two) as engine:
        finished = (await engine.stream()).finished
    assert finished is not None
    assert finished.usage.estimated
    assert finished.usage.prompt_tokens > 85


def test_only_openai_gets_an_identifier_and_the_same_one_from_both() -> None:
    settings = engine_settings(openai_fallback_model=SECOND)
    fallback = fallback_options(settings)
    assert fallback is not None
    assert fallback.safety_identifier_key == model_options(settings, None, FIRST).safety_identifier_key is not None
    elsewhere = fallback_options(engine_settings(openai_fallback_base_url="http://127.0.0.1:1/v1"))
    assert elsewhere is not None
    assert elsewhere.safety_identifier_key is None
    back = fallback_options(
        engine_settings(
            openai_base_url="http://127.0.0.1:1/v1",
            openai_api_key=None,
            openai_fallback_base_url="https://api.openai.com/v1",
            openai_fallback_api_key="sk-own",
        )
    )
    assert back is not None
    assert back.safety_identifier_key is not None
    assert back.api_key == "sk-own"


def test_operator_is_warned_of_a_fallback_at_its_end() -> None:
    with capture_logs() as logs:
        fallback_options(engine_settings(openai_fallback_model="gpt-4-vision-preview"))
    assert ["gpt-4-vision-preview" in entry["event"] for entry in logs] == [True]


def test_local_model_has_no_fallback() -> None:
    assert fallback_options(engine_settings(local_model=True, openai_fallback_model=SECOND)) is None
    assert fallback_options(engine_settings()) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"openai_fallback_model": FIRST}, "OPENAI_FALLBACK_MODEL"),
        ({"openai_base_url": "http://a/v1", "openai_fallback_base_url": "http://a/v1"}, "OPENAI_FALLBACK_MODEL"),
        ({"openai_fallback_api_key": "sk-canary"}, "OPENAI_FALLBACK_BASE_URL"),
        ({"openai_fallback_base_url": "canary.example"}, "OPENAI_FALLBACK_BASE_URL"),
    ],
)
def test_fallback_that_makes_no_sense_is_refused_at_the_start(fields: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        engine_settings(**fields)
    (fault,) = faults(caught.value)
    assert named in fault
    assert "canary" not in fault


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
async def cluster(two: Two, server: RedisServer) -> AsyncIterator[Any]:
    async with Redis.from_url(server.url) as store:
        await store.flushall()
    async with engines(two.primary, server, **second(two)) as running:
        yield running


async def test_resumed_and_joined_answer_names_the_model_that_wrote_it(two: Two) -> None:
    two.primary.default(up.refusal(401))
    async with engine_with_fallback(two) as engine:
        first = await ask(engine).end()
        assert first.started is not None
        assert first.started.model == SECOND
        assert (await resume(engine, first.answer_id).end()).started == first.started
        assert (await ask(engine).end()).started == first.started
        assert (await complete(engine)).started == first.started


@pytest.mark.parametrize("key", ["question-1", ""])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "live"])
async def test_other_engine_names_the_model_that_wrote_the_answer(
    two: Two, cluster: Any, key: str, ended: bool
) -> None:
    two.primary.default(up.refusal(401))
    if not ended:
        two.fallback.default(OPEN, up.chunk("Hello"), up.silence())
    first = await ask(cluster[0], key).has("Hello again" if ended else "Hello")
    other = await resume(cluster[1], first.answer_id).has(first.text)
    assert first.started is not None
    assert first.started.model == SECOND
    assert other.started == first.started
    if key:
        assert (await ask(cluster[1], key).has(first.text)).started == first.started
    if not ended:
        await stop(cluster[1], first.answer_id)


async def test_reader_on_another_engine_waits_until_the_model_is_known(two: Two, cluster: Any) -> None:
    opening = up.Signal()
    two.primary.default(up.refusal(401))
    two.fallback.default(up.gate(opening), up.answer("Hello"))
    first = asyncio.ensure_future(ask(cluster[0]).end())
    await two.fallback.request()
    other = asyncio.ensure_future(ask(cluster[1]).begun())
    whole = asyncio.ensure_future(complete(cluster[1]))
    assert not (await asyncio.wait({first, other, whole}, timeout=0.5))[0]
    opening.set()
    started = (await first).started
    assert started is not None
    assert started.model == SECOND
    assert (await other).started == started == (await whole).started
    assert two.asked == (1, 1)


async def test_failure_of_both_reads_the_same_on_another_engine(two: Two, cluster: Any) -> None:
    opening = up.Signal()
    two.primary.default(up.refusal(401))
    two.fallback.default(up.gate(opening), up.refusal(401))
    first = asyncio.ensure_future(ask(cluster[0]).end())
    await two.fallback.request()
    other = asyncio.ensure_future(ask(cluster[1]).end())
    assert not (await asyncio.wait({first, other}, timeout=0.3))[0]
    opening.set()
    assert (await first).started == (await other).started
    assert (await first).reason == (await other).reason == "UPSTREAM_AUTH"

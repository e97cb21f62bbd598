"""A model's server in trouble is spared: few second tries, none too early, and none at all while it is dead."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from engine_grpc import openai_upstream, resilience
from tests import upstream as up
from tests.engine.harness import KEY, Clock, complete_request, nothing_is_left, request, retry_info, running_engine

if TYPE_CHECKING:
    from tests.engine.harness import RunningEngine, Streamed
    from tests.upstream.server import Connection

PAUSE = resilience.FIRST_PAUSE_SECONDS
DOWN = up.refusal(503, headers={"Retry-After": "60"})
"""Of a server that wants no second try: five requests are five failures."""


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """What the engine's breakers take for the time."""
    monkeypatch.setattr(openai_upstream, "monotonic", clock)
    return clock


async def ask_many(engine: RunningEngine, count: int) -> list[Streamed]:
    return await asyncio.gather(*(engine.stream() for _ in range(count)))


FAILURES: dict[str, list[Any]] = {
    "503": [up.refusal(503)],
    "429": [up.refusal(429, headers={"Retry-After": "0"})],
    "reset": [up.reset()],
    "end before the first token": [up.stream_headers(), up.close()],
}


@pytest.mark.parametrize("steps", FAILURES.values(), ids=FAILURES)
async def test_hundred_requests_to_a_failing_server_make_at_most_120_attempts(steps: list[Any]) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(*steps)
        for _ in range(4):
            await ask_many(engine, 25)
        assert 0 < len(upstream.requests) <= 120


async def test_second_tries_end_with_the_budget() -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(up.refusal(429, headers={"Retry-After": "0"}))
        await ask_many(engine, 50)
        assert 55 <= len(upstream.requests) <= 60


async def test_dead_server_is_asked_no_more_and_callers_are_told_at_once() -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(DOWN)
        with capture_logs() as logs:
            await ask_many(engine, 5)
        seconds = []
        for _ in range(5):
            began = time.monotonic()
            streamed = await engine.stream()
            seconds.append(time.monotonic() - began)
            assert streamed.reason == "UPSTREAM_UNAVAILABLE"
            assert streamed.messages[0].started.model == "gpt-5.4-mini"
            assert streamed.error is not None
            wait = retry_info(streamed.error)
            assert wait is not None
            assert 1 <= wait.retry_delay.ToMilliseconds() / 1000 <= 5
        assert median(seconds) < 0.05
        assert len(upstream.requests) == 5
        changes = [entry for entry in logs if entry.get("upstream")]
        assert [(change["log_level"], change["upstream"]) for change in changes] == [("warning", "primary")]
        assert not [word for word in ("127.0.0.1", KEY, "http") if word in str(changes)]


DEAD: dict[str, list[Any]] = {
    "silent": [up.silence()],
    "silent after the head": [up.stream_headers(), up.silence()],
    "error in the stream": [up.stream_headers(), up.error_object()],
    "ends before the first token": [up.stream_headers(), up.done()],
}


@pytest.mark.parametrize("steps", DEAD.values(), ids=DEAD)
async def test_server_that_gives_no_first_token_counts_as_dead(steps: list[Any]) -> None:
    async with up.Upstream() as upstream, running_engine(upstream, first_token_timeout_seconds=1) as engine:
        upstream.default(*steps)
        await ask_many(engine, 5)
        asked = len(upstream.requests)
        assert (await engine.stream()).reason == "UPSTREAM_UNAVAILABLE"
        assert len(upstream.requests) == asked


ALIVE: dict[str, list[Any]] = {
    "429": [up.refusal(429, headers={"Retry-After": "60"})],
    "400": [up.refusal(400)],
    "401": [up.refusal(401)],
    "cut after the first token": [up.stream_headers(), up.chunk("Hi"), up.close()],
}


@pytest.mark.parametrize("steps", ALIVE.values(), ids=ALIVE)
async def test_server_that_answers_is_asked_again_whatever_it_says(steps: list[Any]) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(*steps)
        await ask_many(engine, 10)
        upstream.default(*up.answer("Hi"))
        assert (await engine.stream()).text == "Hi"


async def test_callers_that_leave_say_nothing_about_the_server() -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        for number in range(10):
            upstream.script(up.silence())
            call = engine.stub.ChatImage(request())
            asked = await upstream.request(number)
            call.cancel()
            await asked.closed.within()
        assert (await engine.stream()).error is None


async def test_one_probe_finds_out_that_the_server_is_back(passing: Clock) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(DOWN)
        await ask_many(engine, 5)
        back = up.Signal()
        upstream.default(up.gate(back), up.answer("Hi"))
        passing.now += PAUSE
        with capture_logs() as logs:
            probing = asyncio.ensure_future(engine.stream())
            await upstream.request(5)
            others = await ask_many(engine, 10)
            assert {other.reason for other in others} == {"UPSTREAM_UNAVAILABLE"}
            assert len(upstream.requests) == 6
            back.set()
            assert (await probing).text == "Hi"
        assert [entry["log_level"] for entry in logs if entry.get("upstream")] == ["info"]
        assert {other.text for other in await ask_many(engine, 10)} == {"Hi"}


async def test_probe_that_fails_is_the_only_attempt_until_the_longer_pause_is_over(passing: Clock) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(DOWN)
        await ask_many(engine, 5)
        passing.now += PAUSE
        await engine.stream()
        passing.now += PAUSE
        await engine.stream()
        assert len(upstream.requests) == 6


@pytest.mark.parametrize("method", ["ChatImage", "CompleteChatImage"])
async def test_probe_whose_caller_leaves_is_followed_by_another(passing: Clock, method: str) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(DOWN)
        await ask_many(engine, 5)
        upstream.script(up.silence())
        upstream.default(*up.answer("Hi"))
        passing.now += PAUSE
        asks = request() if method == "ChatImage" else complete_request()
        call = getattr(engine.stub, method)(asks)
        probe = await upstream.request(5)
        call.cancel()
        await probe.closed.within()
        await nothing_is_left(engine)
        assert (await engine.stream()).text == "Hi"


@pytest.mark.parametrize("status", [429, 503])
async def test_second_try_is_never_earlier_than_the_server_asks(status: int) -> None:
    times: list[float] = []

    async def arrived(_: Connection) -> None:
        times.append(time.monotonic())

    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.script(arrived, up.refusal(status, headers={"Retry-After": "1"}))
        upstream.script(arrived, up.answer("Hi"))
        assert (await engine.stream()).text == "Hi"
    assert 1 <= times[1] - times[0] < 2


async def test_second_tries_of_many_come_at_different_times(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = itertools.cycle([0, 0.25, 0.5, 0.75, 1])
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) * next(drawn))
    times: list[float] = []

    async def arrived(_: Connection) -> None:
        times.append(time.monotonic())

    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        for _ in range(5):
            upstream.script(up.refusal(429, headers={"Retry-After": "1"}))
        upstream.default(arrived, up.answer("Hi"))
        await ask_many(engine, 5)
    assert len(times) == 5
    assert max(times) - min(times) > 0.2


async def test_second_try_that_could_not_be_in_time_is_not_waited_for() -> None:
    async with up.Upstream() as upstream, running_engine(upstream, first_token_timeout_seconds=3) as engine:
        upstream.default(up.refusal(503, headers={"Retry-After": "4"}))
        began = time.monotonic()
        streamed = await engine.stream()
        assert time.monotonic() - began < 2
    assert streamed.reason == "UPSTREAM_UNAVAILABLE"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-encoding": "gzip"}, 200, "UPSTREAM_PROTOCOL"),
        ({"content-encoding": "gzip"}, 500, "UPSTREAM_UNAVAILABLE"),
        ({}, 400, "UPSTREAM_REJECTED"),
    ],
)
async def test_body_of_a_refusal_is_not_read_to_its_end(headers: dict[str, str], status: int, code: str) -> None:
    endless = itertools.repeat(up.raw(b"\x1f\x8b" + bytes(65_536)), 1000)
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(up.stream_headers(status=status, headers=headers), *endless)
        streamed = await engine.stream()
        assert streamed.reason == code
        await upstream.requests[0].closed.within()

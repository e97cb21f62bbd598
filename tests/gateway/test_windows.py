"""Counting questions: in sliding windows, in memory and in a Redis, which may go away."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from limits.aio.storage import MemoryStorage
from redis.asyncio import Redis

from sse_gateway import metrics, windows
from sse_gateway.limits import rate_limits
from sse_gateway.windows import RedisWindows, Windows
from tests.gateway.conftest import logged
from tests.redis_server import RedisServer, running_redis
from tests.waiting import turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sse_gateway.windows import Count

STUDENT, OTHER = "canary-student", "other"


class Clock:
    """Everybody's, set to the start of a minute, hour and day."""

    def __init__(self) -> None:
        self.now = 20_000 * 86_400.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


def in_memory(limit: str, storage: MemoryStorage | None = None) -> Windows:
    return Windows(rate_limits(limit), storage or MemoryStorage())


@asynccontextmanager
async def in_redis(redis: RedisServer, limit: str) -> AsyncIterator[RedisWindows]:
    counting = RedisWindows(rate_limits(limit), redis.url, in_memory(limit))
    try:
        yield counting
    finally:
        await counting.aclose()


def left(count: Count) -> list[int]:
    return [quota.remaining for quota in count.quotas]


async def check_limits(counting: Windows) -> None:
    """A minute's limit of 2 and a day's of 3, within one minute."""
    first = await counting.count(STUDENT)
    assert (first.allowed, left(first)) == (True, [1, 2])
    assert [round(quota.reset_seconds) for quota in first.quotas] == [60, 86_400]
    assert (await counting.count(STUDENT)).allowed
    for _ in range(2):
        # Refused by the one limit, it is not counted by the other.
        refused = await counting.count(STUDENT)
        assert (refused.allowed, left(refused)) == (False, [0, 1])
    assert (await counting.count(OTHER)).allowed


@pytest.mark.usefixtures("clock")
async def test_question_is_counted_where_every_limit_has_room() -> None:
    await check_limits(in_memory("2/minute;3/day"))


async def test_question_is_counted_in_redis_where_every_limit_has_room(redis: RedisServer) -> None:
    async with in_redis(redis, "2/minute;3/day") as counting:
        await check_limits(counting)


async def test_question_that_the_last_limit_refuses_is_not_counted_by_the_first() -> None:
    counting = in_memory("5/day;1/hour")
    await counting.count(STUDENT)
    for _ in range(2):
        refused = await counting.count(STUDENT)
        assert (refused.allowed, left(refused)) == (False, [4, 0])


async def test_room_comes_back_when_it_is_told_and_not_before(clock: Clock) -> None:
    counting = in_memory("3/minute")
    for _ in range(3):
        assert (await counting.count(STUDENT)).allowed
    waits = []
    for _ in range(3):
        refused = await counting.count(STUDENT)
        assert (refused.allowed, left(refused)) == (False, [0])
        waits.append(round(refused.quotas[0].reset_seconds))
        clock.now += refused.quotas[0].reset_seconds - 0.01
        assert not (await counting.count(STUDENT)).allowed
        clock.now += 0.02
        allowed = await counting.count(STUDENT)
        assert (allowed.allowed, left(allowed)) == (True, [0])
    # The window's end first; from there on the questions of the window before fade one after the other.
    assert waits == [60, 20, 20]


async def test_room_comes_back_in_redis_too(redis: RedisServer) -> None:
    async with in_redis(redis, "1/second") as counting:
        assert (await counting.count("comes back")).allowed
        asked = time.monotonic()
        refused = await counting.count("comes back")
        told = time.monotonic()
        assert not refused.allowed
        wait = refused.quotas[0].reset_seconds
        tries = [told]

        async def comes_back() -> bool:
            tries.append(time.monotonic())
            return (await counting.count("comes back")).allowed

        await until(comes_back)
    assert 0 < wait <= 1
    # Each try is counted after it has begun, however long a busy machine takes for that.
    assert tries[-2] < told + wait + 0.1
    assert time.monotonic() > asked + wait - 0.1


async def test_students_of_long_ago_are_forgotten(clock: Clock) -> None:
    storage = MemoryStorage()
    counting = in_memory("2/minute", storage)
    for number in range(1000):
        clock.now += 1
        await counting.count(f"student-{number}")
        await turns()  # `limits` forgets in a task of its own.
    assert 2 <= len(storage.storage) <= 122


async def test_gateways_with_one_redis_count_together_and_name_nobody_in_it(redis: RedisServer) -> None:
    async with (
        in_redis(redis, "3/hour") as one,
        in_redis(redis, "3/hour") as two,
        Redis.from_url(redis.url) as client,
    ):
        await client.flushdb()  # others' counts of a second ago end while we look
        counts = await asyncio.gather(*(counting.count(STUDENT) for counting in (one, two) * 5))
        assert sum(count.allowed for count in counts) == 3
        # What a refused question is told never promises more.
        assert all(left(count) == [0] for count in counts if not count.allowed)
        names = await client.keys("studyai:limit:*")
        assert len(names) == await client.dbsize() > 0
        assert all([await client.ttl(name) > 0 for name in names])
    assert "canary" not in str(names)


async def test_paused_redis_delays_questions_of_one_half_second_and_no_others() -> None:
    with running_redis() as redis, logged() as lines:
        async with in_redis(redis, "2/hour") as counting:
            assert (await counting.count(STUDENT)).allowed
            redis.pause()
            began = time.monotonic()
            await asyncio.gather(*(counting.count(OTHER) for _ in range(10)))
            assert time.monotonic() - began < 4  # If one waited for the other: 5.
            began = time.monotonic()
            for _ in range(100):
                await counting.count(OTHER)
            assert time.monotonic() - began < 25  # If each waited: 50.
            # Nobody is refused for what only Redis knows, and everybody for what this gateway knows.
            assert left(await counting.count(STUDENT)) == [1]
            assert not (await counting.count(OTHER)).allowed
            redis.go_on()
        warnings = [json.loads(line) for line in lines()]
    assert [(one["level"], one["error"]) for one in warnings] == [("warning", "TimeoutError")]


class Trying(RedisWindows):
    """Notes each time that it asks Redis."""

    tries = 0

    async def _ask(self, student: str) -> Count:
        self.tries += 1
        return await super()._ask(student)


async def test_only_one_question_at_a_time_tries_whether_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_PAUSE_SECONDS", 0)
    with running_redis() as redis:
        counting = Trying(rate_limits("1000/hour"), redis.url, in_memory("1000/hour"))
        redis.pause()
        await counting.count(STUDENT)
        monkeypatch.setattr(windows, "_PAUSE_SECONDS", 3600)
        await asyncio.gather(*(counting.count(STUDENT) for _ in range(20)))
        redis.go_on()
        await counting.aclose()
    assert counting.tries == 2


async def test_redis_that_comes_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_PAUSE_SECONDS", 0.05)
    with running_redis() as redis, logged() as lines:
        async with in_redis(redis, "1000/hour") as counting:
            redis.kill()
            assert (await counting.count(STUDENT)).allowed
            redis.start()

            async def told_by_counting() -> bool:
                await counting.count(STUDENT)
                return len(lines()) == 2

            await until(told_by_counting)
            async with in_redis(redis, "1000/hour") as other:
                assert left(await other.count(STUDENT)) == [998]
        events = [json.loads(line)["event"] for line in lines()]
    assert events == ["redis cannot be reached: each gateway counts its questions itself", "redis is reached again"]


async def test_redis_that_was_never_there_is_told_once() -> None:
    counted = redis_failures()
    with running_redis() as redis, logged() as lines:
        redis.kill()
        async with in_redis(redis, "3/hour") as counting:
            counts = [await counting.count(STUDENT) for _ in range(5)]
        assert len(lines()) == 1
    assert redis_failures() == counted + 1
    assert [count.allowed for count in counts] == [True] * 3 + [False] * 2


def redis_failures() -> float:
    return metrics.REGISTRY.get_sample_value("studyai_redis_failures_total") or 0

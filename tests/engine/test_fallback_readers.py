"""Whoever joins or resumes an answer, on whichever engine, is told the model that wrote it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from tests import upstream as up
from tests.engine.harness import SECOND, Two, engine_with_fallback, second
from tests.engine.shared import ask, complete, engines, resume, stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.redis_server import RedisServer

OPEN = up.stream_headers()


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

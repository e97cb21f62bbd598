"""Chat context on Redis: the same on every engine, bounded, and each turn once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from engine_grpc.image import inspect
from engine_grpc.redis_link import RedisLink
from engine_grpc.redis_sessions import RedisSessions
from engine_grpc.redis_state import redis_state
from engine_grpc.sessions import MAX_TURNS, Turn
from tests import upstream as up
from tests.engine.harness import WORKSHEET
from tests.engine.shared import ask, engines, resume
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from engine_grpc.sessions import Sessions
    from tests.redis_server import RedisServer
    from tests.upstream import Upstream


@pytest.fixture
async def two(server: RedisServer, store: Redis) -> AsyncIterator[tuple[Sessions, Sessions]]:
    async with redis_state(server.url, 300, 120, 60) as (a, _), redis_state(server.url, 300, 120, 60) as (b, _):
        yield a, b


async def test_follow_up_without_a_picture_is_asked_about_the_earlier_one_on_another_engine(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    upstream.default(*up.answer("It is 6."))
    async with engines(upstream, server) as running:
        await ask(running[0], key="1", session_id="s").end()
        await remembered(store)
        follow_up = await ask(running[1], key="2", session_id="s", image=b"", prompt="And y?").end()
        assert follow_up.text == "It is 6."
        other = ask(running[1], key="3", session_id="s", image=b"", student_id="ben")
        assert (await other.end()).reason == "INVALID_REQUEST"
    first, second = [json.dumps(request.json["messages"]) for request in upstream.requests]
    assert "It is 6." in second
    assert "What is x?" in second
    picture = first[first.index("data:image") :].partition('"')[0]
    assert picture in second


async def test_answer_that_is_read_on_two_engines_is_one_turn(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    upstream.default(*up.answer("It is 6."))
    async with engines(upstream, server) as running:
        first = await ask(running[0], key="1", session_id="s").end()
        await resume(running[1], first.answer_id).end()
        await ask(running[1], key="1", session_id="s").end()
        await remembered(store)
    (name,) = [name async for name in store.scan_iter("*:turns")]
    assert await store.llen(name) == 1


async def test_turns_written_at_once_on_two_engines_are_all_kept(two: tuple[Sessions, Sessions]) -> None:
    turns = [Turn(f"question {number}", f"answer {number}", f"{number:032}") for number in range(MAX_TURNS)]
    writing = [two[number % 2].remember_turn("anna", "s", turn) for number, turn in enumerate(turns)]
    await asyncio.gather(*writing)
    loaded = [(await sessions.load("anna", "s")).turns for sessions in two]
    assert loaded[0] == loaded[1]
    assert sorted(loaded[0], key=lambda turn: turn.answer_id) == turns


async def test_only_the_last_turns_are_kept_oldest_first(two: tuple[Sessions, Sessions]) -> None:
    turns = [Turn(f'[q"{number}', f"ä\u2028{number}") for number in range(MAX_TURNS + 3)]
    for turn in turns:
        await two[0].remember_turn("anna", "s", turn)
    assert (await two[1].load("anna", "s")).turns == tuple(turns[3:])


async def test_last_picture_is_the_session_s_and_is_left_out_where_it_is_not_needed(
    two: tuple[Sessions, Sessions],
) -> None:
    picture = inspect(WORKSHEET)
    await two[0].remember_picture("anna", "s", picture)
    assert (await two[1].load("anna", "s")).picture == picture
    assert (await two[1].load("anna", "s", with_picture=False)).picture is None
    assert (await two[1].load("ben", "s")).picture is None
    assert (await two[1].load("anna", "s2")).picture is None


async def test_use_keeps_a_session_from_expiring(server: RedisServer, store: Redis) -> None:
    async with redis_state(server.url, 300, 120, 100) as (sessions, _):
        await sessions.remember_picture("anna", "s", inspect(WORKSHEET))
        await sessions.remember_turn("anna", "s", Turn("q", "a"))
        names = [name async for name in store.scan_iter("*:session:*")]
        assert len(names) == 2
        for name in names:
            await store.pexpire(name, 5_000)
        await sessions.load("anna", "s")
        assert all([await store.pttl(name) > 90_000 for name in names])


async def test_engine_remembers_its_own_sessions_while_redis_is_away() -> None:
    sessions = RedisSessions(RedisLink("redis://127.0.0.1:1/0"), 60)
    await sessions.remember_turn("anna", "s", Turn("q", "a"))
    assert (await sessions.load("anna", "s", with_picture=False)).turns == (Turn("q", "a"),)


async def remembered(store: Redis) -> None:
    """Waits for what is written beside the stream."""

    async def all_there() -> bool:
        return len([name async for name in store.scan_iter("*:session:*")]) >= 2

    await until(all_there)

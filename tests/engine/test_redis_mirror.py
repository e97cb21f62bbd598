"""The mirror by itself: what it holds of answers that Redis does not take, and how often it asks."""

from __future__ import annotations

import asyncio
import gc
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import NoPermissionError

from engine_grpc import redis_mirror
from engine_grpc.answers import Answer, Finished, Started
from engine_grpc.model import FinishReason, Usage
from engine_grpc.redis_codec import NOTHING, Head
from engine_grpc.redis_link import RedisLink, UnreachableError
from engine_grpc.redis_mirror import Mirror, Mirrored
from engine_grpc.redis_scripts import log_name
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from tests.redis_server import RedisServer

KEPT = 3
END = Finished(FinishReason.STOP, Usage(1, 1, 2), 0.1)


@pytest.fixture(autouse=True)
def _few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_mirror, "_MOST_ENDED", KEPT)


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(server.url)

    async def probe() -> None:
        await link.attempt(lambda client: client.ping())

    await link.try_open(probe)
    yield link
    await link.aclose()


@asynccontextmanager
async def running(mirror: Mirror) -> AsyncIterator[None]:
    writing = asyncio.ensure_future(mirror.run())
    yield
    writing.cancel()
    await asyncio.wait({writing})


def ended(mirror: Mirror, count: int) -> list[str]:
    """Has so many answers begin and end; returns their ids."""
    answers = [Answer(Started(student_id="anna", session_id="s", model="m")) for _ in range(count)]
    for answer in answers:
        mirror.add(Mirrored(answer, Head(answer.started, "engine", ""), b"", lambda: None, NOTHING))
    for answer in answers:
        answer.end(END)
    return [answer.started.answer_id for answer in answers]


async def test_last_ended_answers_alone_wait_for_a_redis_that_is_full(server: RedisServer, store: Redis) -> None:
    async with opened(server) as link:
        mirror = Mirror(link, answer_ttl=60)
        await store.config_set("maxmemory", "1")
        try:
            async with running(mirror):
                first = ended(mirror, 2 * KEPT)
                await until(lambda: [*mirror.mirrored] == first[-KEPT:])
                later = ended(mirror, 2 * KEPT)
                assert [*mirror.mirrored] == later[-KEPT:]
                await store.config_set("maxmemory", "0")
                await mirror.flushed()
        finally:
            await store.config_set("maxmemory", "0")
        assert await store.exists(*map(log_name, later)) == await store.exists(*map(log_name, later[-KEPT:])) == KEPT


async def test_every_answer_that_ends_at_once_is_written_by_a_redis_that_takes_it(
    server: RedisServer, store: Redis
) -> None:
    async with opened(server) as link:
        mirror = Mirror(link, answer_ttl=60)
        async with running(mirror):
            ids = ended(mirror, 10 * KEPT)
            await mirror.flushed()
        assert await store.exists(*map(log_name, ids)) == len(ids)


@pytest.mark.usefixtures("store")
async def test_answers_are_renewed_though_too_many_wait_for_a_redis_that_is_gone(server: RedisServer) -> None:
    async with opened(server) as link:
        mirror = Mirror(link, answer_ttl=60)
        ended(mirror, 2 * KEPT)
        link.failed(ConnectionError())
        mirror.touch_all()
        last = ended(mirror, KEPT)
        assert [*mirror.mirrored] == last


class Refusing(RedisLink):
    """A Redis that can be reached and does nothing for us."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/0")
        self.up.set()
        self.asked_at: list[float] = []

    async def attempt(self, commands: Callable[[Any], Awaitable[Any]], within: float = 0) -> Any:
        self.asked_at.append(asyncio.get_running_loop().time())
        self.refused(NoPermissionError())
        raise UnreachableError


async def test_redis_that_refuses_even_the_scripts_is_not_asked_at_the_pace_of_the_text() -> None:
    link = Refusing()
    mirror = Mirror(link, answer_ttl=60)
    ended(mirror, 1)
    async with running(mirror):
        await until(lambda: len(link.asked_at) > 2)
    pauses = [later - sooner for sooner, later in itertools.pairwise(link.asked_at)]
    assert min(pauses) > 0.4
    await link.aclose()


class Meanwhile(Refusing):
    """Something happens while it is asked for the second time."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self._happens = happens

    async def attempt(self, commands: Callable[[Any], Awaitable[Any]], within: float = 0) -> Any:
        if len(self.asked_at) == 1:
            self._happens()
        return await super().attempt(commands, within)


async def test_answer_that_is_forgotten_while_it_is_being_written_stays_forgotten() -> None:
    def happens() -> None:
        answer.end(END)
        ended(mirror, 2 * KEPT)

    link = Meanwhile(happens)
    mirror, answer = Mirror(link, answer_ttl=60), Answer(Started(student_id="anna", session_id="s", model="m"))
    mirror.add(Mirrored(answer, Head(answer.started, "engine", ""), b"", lambda: None, NOTHING))
    async with running(mirror):
        await until(lambda: len(link.asked_at) > 2)
        held = [kept for kept in gc.get_objects() if isinstance(kept, Mirrored) and kept.answer is answer]
    assert not held
    await link.aclose()

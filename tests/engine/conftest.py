"""An engine in front of a scripted model's server, two such servers, and the Redis that engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from tests import upstream as up
from tests.engine.harness import Clock, Two, running_engine
from tests.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.engine.harness import RunningEngine
    from tests.redis_server import RedisServer
    from tests.upstream import Upstream


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[RunningEngine]:
    async with running_engine(upstream) as running:
        yield running


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with up.Upstream() as primary, up.Upstream() as fallback:
        fallback.default(*up.answer("Hello", " again", usage=(3, 4)))
        yield Two(primary, fallback)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """The module's Redis; its password is the module's `REDIS_CANARY`, where it has one."""
    with running_redis(getattr(request.module, "REDIS_CANARY", "")) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Redis]:
    """The module's Redis, emptied."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()

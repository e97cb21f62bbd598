"""How often each student asks, as `limits` counts it: in memory, or in a Redis that gateways share.

Its sliding window counters keep two numbers per student and limit, and go by Redis's clock. They take the questions of
the window before as evenly spread: who asked them all at its end may ask up to twice the limit within one window's
length. Its moving windows are exact, but in memory each question would have a thread look at every student there is.
While Redis is away each gateway counts for itself: nobody is refused because of that, and nobody waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sse_gateway import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from limits import RateLimitItem
    from limits.aio.storage import MemoryStorage

log = structlog.get_logger(__name__)

_REDIS_SECONDS = 0.5
"""How long a question may wait for Redis, in all."""
_PAUSE_SECONDS = 5.0
"""How long Redis is left alone when it made a question wait in vain."""
_CONNECTIONS = 16


class Quota(NamedTuple):
    """What one limit leaves a student."""

    limit: RateLimitItem
    remaining: int
    """Questions, after the one that is being counted."""
    reset_seconds: float
    """Until it leaves one more."""


class Count(NamedTuple):
    """What counting a question came to."""

    allowed: bool
    quotas: Sequence[Quota]


class Windows:
    """Counts each student's questions.

    Args:
        limits: For every student; at least one.
        storage: Where the numbers are.
    """

    def __init__(self, limits: Sequence[RateLimitItem], storage: MemoryStorage | RedisStorage) -> None:
        self._limits = limits
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def count(self, student: str) -> Count:
        """Counts a question, if every limit has room for it."""
        name = hashlib.sha256(student.encode()).hexdigest()
        # A limit tests what it counts, in one step; it is tested beforehand where another one counts before it. So a
        # refused question counts nowhere, unless another one of the student takes the room in between: only in Redis.
        allowed = await _all(self._limiter.test, self._limits[1:], name)
        allowed = allowed and await _all(self._limiter.hit, self._limits, name)
        return Count(allowed, [await self._quota(limit, name) for limit in self._limits])

    async def aclose(self) -> None:
        """Closes what is open."""

    async def _quota(self, limit: RateLimitItem, name: str) -> Quota:
        reset, remaining = await self._limiter.get_window_stats(limit, name)
        seconds = reset - time.time()
        if seconds <= 0:
            # `limits` takes a window that began this very millisecond for one that ends, which Redis's often does.
            seconds = limit.get_expiry()
        return Quota(limit, remaining, seconds)


class RedisWindows(Windows):
    """Counts in Redis, for all gateways that have the same.

    Args:
        limits: For every student; at least one.
        url: `redis://` or `rediss://`; may hold a password, and is never logged.
        meanwhile: Counts while Redis is away.
    """

    def __init__(self, limits: Sequence[RateLimitItem], url: str, meanwhile: Windows) -> None:
        options: dict[str, Any] = {
            "max_connections": _CONNECTIONS,
            "timeout": None,
            "protocol": 2,
            "socket_connect_timeout": _REDIS_SECONDS,
            # Whoever waits sets the time-out; the library's own would be one for each step.
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),
        }
        # Not made by `limits`: that wants a port in every address, and else raises an error with the address in it.
        self._pool = BlockingConnectionPool.from_url(url, **options)
        to_storage: dict[str, Any] = {"connection_pool": self._pool, "key_prefix": "studyai:limit"}
        super().__init__(limits, RedisStorage("async+redis://", implementation="redispy", **to_storage))
        self._meanwhile = meanwhile
        self._away_until = -math.inf
        self._away = False

    async def count(self, student: str) -> Count:
        """Counts a question; see `Windows`."""
        trying_again = self._away
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            return await self._meanwhile.count(student)
        if trying_again:
            # This question does; those that come meanwhile do not wait with it.
            self._away_until = now + _PAUSE_SECONDS
        try:
            count = await self._ask(student)
        except (RedisError, OSError) as error:
            self._leave_alone(error)
            return await self._meanwhile.count(student)
        if trying_again:
            self._use_again()
        return count

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._pool.disconnect()

    async def _ask(self, student: str) -> Count:
        async with asyncio.timeout(_REDIS_SECONDS):
            return await super().count(student)

    def _leave_alone(self, error: Exception) -> None:
        metrics.REDIS_FAILURES.inc()
        if not self._away:
            log.warning("redis cannot be reached: each gateway counts its questions itself", error=type(error).__name__)
        self._away = True
        self._away_until = asyncio.get_running_loop().time() + _PAUSE_SECONDS

    def _use_again(self) -> None:
        log.info("redis is reached again")
        self._away = False
        self._away_until = -math.inf


async def _all(
    ask: Callable[[RateLimitItem, str], Awaitable[bool]], limits: Sequence[RateLimitItem], name: str
) -> bool:
    for limit in limits:
        if not await ask(limit, name):
            return False
    return True

"""The way to Redis, and whether it is open: when one command has waited in vain, no other waits.

A command that times out or finds no server closes the way for all; `keep_open` tries, and opens it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine_grpc import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger(__name__)

Client = Redis
Result = TypeVar("Result")

COMMAND_SECONDS = 0.5
"""How long a request may wait for Redis; a busy loop of our own must fit in as well."""
_CONNECTIONS = 32
BLOCKED_READ_SECONDS = 1.5
"""How long a blocking read may take in all; `XREAD` is told to block for less."""
_PROBE_SECONDS = 0.25
_CATCH_UP_SECONDS = 5
_REFUSALS_LOGGED_EVERY = 10


class UnreachableError(Exception):
    """Redis did not do it: it cannot be reached, is too slow, or refuses (it may be full)."""


class RedisLink:
    """Clients for one Redis.

    Args:
        url: `redis://` or `rediss://`; may hold a password, and is never logged.
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_connect_timeout": COMMAND_SECONDS,
            # The library would write with `asyncio.wait_for`, which loses a cancellation that comes at the wrong moment
            # (Python 3.11): whoever awaits something here sets a time-out around it.
            "socket_timeout": None,
            # What is to be tried again is decided here, by what it is.
            "retry": Retry(NoBackoff(), 0),
        }
        self._commands = Redis(
            connection_pool=BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=None, **options)
        )
        self.blocking = Redis(connection_pool=ConnectionPool.from_url(url, **options))
        """For reads that block; each has a connection for itself meanwhile. Within `BLOCKED_READ_SECONDS`."""
        self.up = asyncio.Event()
        self.on_up: Callable[[], object] = lambda: None
        """Called when Redis can be reached again: it may be another one now, or empty."""
        self._failed = asyncio.Event()
        self._said = False
        self._back_at = -math.inf
        self._refusal_logged = 0.0

    @property
    def steady(self) -> bool:
        """Whether Redis can be reached and refuses nothing, and for long enough that nobody is behind any more."""
        return self.up.is_set() and asyncio.get_running_loop().time() - self._back_at > _CATCH_UP_SECONDS

    async def run(self, commands: Callable[[Client], Awaitable[Result]], within: float = COMMAND_SECONDS) -> Result:
        """Returns what Redis says, within so many seconds.

        Raises:
            UnreachableError: It does not say anything, or no.
        """
        if not self.up.is_set():
            raise UnreachableError
        return await self.attempt(commands, within)

    async def attempt(self, commands: Callable[[Client], Awaitable[Result]], within: float = COMMAND_SECONDS) -> Result:
        """The same, also while Redis is taken to be unreachable."""
        try:
            async with asyncio.timeout(within):
                return await commands(self._commands)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            self.failed(error)
            raise UnreachableError from error
        except RedisError as error:
            self.refused(error)
            raise UnreachableError from error

    def failed(self, error: Exception) -> None:
        """Lets nobody wait any more until Redis has been reached again."""
        metrics.REDIS_FAILURES.inc()
        if self.up.is_set() or not self._said:
            self._said = True
            log.warning("redis cannot be reached", error=type(error).__name__)
        self.up.clear()
        self._failed.set()

    def refused(self, error: Exception) -> None:
        """Notes that Redis refuses commands, and logs it now and then."""
        metrics.REDIS_FAILURES.inc()
        now = self._back_at = asyncio.get_running_loop().time()
        if not self._refusal_logged or now - self._refusal_logged > _REFUSALS_LOGGED_EVERY:
            self._refusal_logged = now
            log.warning("redis refuses", error=type(error).__name__)

    async def keep_open(self, probe: Callable[[], Awaitable[None]], every: float) -> None:
        """Runs `probe` every so many seconds, and more often while Redis cannot be reached.

        Args:
            probe: Raises UnreachableError while it cannot.
            every: Seconds.
        """
        while True:
            await self.try_open(probe)
            if not self.up.is_set():
                await asyncio.sleep(_PROBE_SECONDS)
                continue
            self._failed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._failed.wait()

    async def try_open(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Runs `probe` once, and opens the way if it succeeds."""
        try:
            await probe()
        except UnreachableError:
            return
        if not self.up.is_set():
            self.up.set()
            if self._said:
                log.info("redis is reached again")
                self._back_at = asyncio.get_running_loop().time()
            self._said = False
            self.on_up()

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._commands.aclose()
        await self._commands.connection_pool.disconnect()
        await self.blocking.aclose()
        await self.blocking.connection_pool.disconnect()

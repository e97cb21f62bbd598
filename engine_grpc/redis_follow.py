"""Follows an answer that another engine writes: copies its log from Redis until it ends, or its engine is gone.

An engine is gone when its lease has run out and stays so while Redis can be reached and lets itself be written to:
after Redis itself was away, the engines need a moment to renew theirs.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError

from engine_grpc import redis_codec as codec
from engine_grpc.errors import EngineError, Reason
from engine_grpc.outcome import log_lost
from engine_grpc.redis_control import BEAT_SECONDS
from engine_grpc.redis_link import BLOCKED_READ_SECONDS, UnreachableError
from engine_grpc.redis_scripts import LOSE, NO_KEY, channel_name, lease_name, log_name, lost_name

if TYPE_CHECKING:
    from engine_grpc.answers import Answer
    from engine_grpc.redis_control import Control
    from engine_grpc.redis_link import RedisLink

LEASE_MS = 4_000
LEASE_EVERY = 1
"""Seconds between two renewals."""
GONE_SECONDS = 2.5
"""How long a lease or a log must be missing. With the lease's own time a dead engine is noticed within 7.5 s."""
_SILENT_SECONDS = 6
"""How long Redis may be away or refuse to be written to, or something else be wrong."""
_RETRY_SECONDS = 0.25
_STOP_TRIES = 16
_LOST_MARK_MS = 600_000


class _LivenessCheck:
    """Whether more of an answer may still come: what is missing for that, and since when."""

    def __init__(self) -> None:
        self._why = ""
        self._since = self._first = asyncio.get_running_loop().time()

    def dead(self, why: str) -> bool:
        """Notes what is missing, if anything is; returns whether it has been so for too long."""
        now = asyncio.get_running_loop().time()
        if not (why and self._why):
            self._first = now
        if why != self._why:
            self._why, self._since = why, now
        # Whatever is wrong now: when it is always something, Redis comes and goes.
        gone = why != "redis" and now - self._since > GONE_SECONDS
        return bool(why) and (gone or now - self._first > _SILENT_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """One followed answer.

    Args:
        link: The way to Redis.
        control: To tell the writing engine that there are readers here.
        head: What the log says about itself.
        longest: Seconds after which no answer goes on.
    """

    link: RedisLink
    control: Control
    head: codec.Head
    longest: float

    async def follow(self, answer: Answer) -> None:
        """Copies the log to `answer`, its ending included.

        Raises:
            EngineError: ENGINE_UNAVAILABLE, when the answer goes on no more, or that cannot be told.
        """
        try:
            async with asyncio.timeout(self.longest):
                await self._copy(answer)
        except (TimeoutError, ValueError):
            raise EngineError(Reason.ENGINE_UNAVAILABLE) from None

    async def stop(self, answer: Answer) -> None:
        """Has the writing engine stop the answer, and returns when the copy has ended.

        Raises:
            EngineError: ENGINE_UNAVAILABLE, when it does not.
        """
        for _ in range(_STOP_TRIES):
            try:
                await self.control.say(self.head.engine_id, "stop", self.head.started.answer_id)
                async with asyncio.timeout(_RETRY_SECONDS):
                    await answer.grown(sys.maxsize)
            except UnreachableError:
                await asyncio.sleep(_RETRY_SECONDS)
            except TimeoutError:
                continue
            if answer.ending is not None:
                return
        raise EngineError(Reason.ENGINE_UNAVAILABLE)

    async def _copy(self, answer: Answer) -> None:
        liveness, last_id, beat_at = _LivenessCheck(), "0-0", 0.0
        loop = asyncio.get_running_loop()
        why = ""
        while answer.ending is None:
            try:
                async with asyncio.timeout(BLOCKED_READ_SECONDS):
                    if loop.time() >= beat_at:
                        why, beat_at = await self._beat(), loop.time() + BEAT_SECONDS
                    last_id = await self._read(answer, last_id)
            except (RedisError, OSError):
                why = "redis"
                await asyncio.sleep(_RETRY_SECONDS)
            if answer.ending is None and liveness.dead(why):
                if why == "engine":
                    await lost(self.link, self.head.started.answer_id, self.head.claim)
                raise EngineError(Reason.ENGINE_UNAVAILABLE)

    async def _beat(self) -> str:
        """Says that the answer is read here; returns what is missing, `redis`, `engine` or `log`, if anything is."""
        answer_id, engine_id = self.head.started.answer_id, self.head.engine_id
        pipeline = self.link.blocking.pipeline(transaction=False)
        pipeline.publish(channel_name(engine_id), self.control.message("read", answer_id))
        pipeline.exists(lease_name(engine_id))
        pipeline.exists(log_name(answer_id))
        # Changes nothing. Where it is refused, so is what the other engine writes, its lease too.
        pipeline.setrange(NO_KEY, 0, "")
        _, lease, log, _ = results = await pipeline.execute(raise_on_error=False)
        for result in results:
            if isinstance(result, RedisError):
                self.link.refused(result)
                return "redis"
        return "" if lease and log else "engine" if not lease else "log"

    async def _read(self, answer: Answer, last_id: str) -> str:
        """Waits for more of the log, but not for longer than until the next beat; returns the last entry's id."""
        name = log_name(self.head.started.answer_id)
        reply = await self.link.blocking.xread({name: last_id}, block=round(BEAT_SECONDS * 1000))
        for _, entries in cast("list[Any]", reply or []):
            for entry_id, fields in entries:
                codec.apply(fields[codec.FIELD], answer)
                last_id = entry_id
        return last_id


async def lost(link: RedisLink, answer_id: str, claim: str) -> None:
    """Lets the key of an answer whose engine is gone name another one; one of all engines logs it."""
    keys = [lost_name(answer_id), *([claim] if claim else [])]
    try:
        first = await link.run(lambda client: client.eval(LOSE, len(keys), *keys, answer_id, _LOST_MARK_MS))
    except UnreachableError:
        return
    if first:
        log_lost(answer_id)

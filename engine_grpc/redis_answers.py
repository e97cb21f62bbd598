"""The answers of all engines that share a Redis: who wrote what, and where a key's answer is.

Before an answer starts, its key is claimed in Redis. A question waits for that and for its session, for half a second
when Redis does not answer; from then on the answer is this engine's own, no stream waits for Redis, and Redis gets a
copy. When Redis cannot be reached, an engine is on its own, and what others have written cannot be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import structlog

from engine_grpc import redis_codec as codec
from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.redis_control import Control
from engine_grpc.redis_follow import GONE_SECONDS, LEASE_EVERY, LEASE_MS, Follower, lost
from engine_grpc.redis_link import UnreachableError
from engine_grpc.redis_mirror import LIVE_MS, RENEW_SECONDS, Mirror, Mirrored
from engine_grpc.redis_scripts import CLAIM, DISOWN, FORGET, LEASE_PREFIX, claim_name, lease_name, log_name
from engine_grpc.shared import RemoteAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from engine_grpc.answers import Answer, Started
    from engine_grpc.redis_link import RedisLink

log = structlog.get_logger(__name__)

_FIND_SECONDS = 0.5
"""How long an id that nobody knows may be that of an answer whose first entry is on its way."""
_POLL_SECONDS = 0.05
_LAST_WORDS_SECONDS = 2
_CLAIM_TRIES = 3


class RedisAnswers:
    """One engine's part in them; implements `SharedAnswers`.

    Args:
        link: The way to Redis.
        answer_ttl: Seconds that an ended answer is kept.
        longest: Seconds that an answer may take.
    """

    def __init__(self, link: RedisLink, answer_ttl: float, longest: float) -> None:
        self.engine_id = secrets.token_hex(8)
        self._link = link
        self._longest = longest
        self._mirror = Mirror(link, answer_ttl)
        self._control = Control(link, self.engine_id, self._mirror.mirrored, self._disown)
        self._claiming: set[str] = set()
        """Answers that others may find in Redis before they are started here."""
        self._tasks: set[asyncio.Task[Any]] = set()
        link.on_up = self._mirror.restore

    async def open(self) -> None:
        """Starts what goes on beside the answers. Redis need not be there yet."""
        await self._link.try_open(self._renew_lease)
        for forever in (
            self._link.keep_open(self._renew_lease, LEASE_EVERY),
            self._control.run(),
            self._mirror.run(),
            self._renew_logs(),
        ):
            self._beside(forever)

    async def aclose(self) -> None:
        """Writes the last endings, if that can be done soon, and gives the lease back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS if self._link.up.is_set() else 0):
                await self._mirror.flushed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._control.close()
        with contextlib.suppress(UnreachableError):
            await self._link.run(lambda client: client.delete(lease_name(self.engine_id)))

    async def claim(self, started: Started, fingerprint: bytes) -> RemoteAnswer | None:
        """Claims a key; see `SharedAnswers`."""
        self._claiming.add(started.answer_id)
        with contextlib.ExitStack() as undoing:
            # Left half-way, cancelled too: whether the claim was made, nobody will tell.
            undoing.callback(self.release, started)
            remote = await self._claimed_elsewhere(started, fingerprint)
            undoing.pop_all()
        if remote:
            self._claiming.discard(started.answer_id)
        return remote

    async def _claimed_elsewhere(self, started: Started, fingerprint: bytes) -> RemoteAnswer | None:
        try:
            for _ in range(_CLAIM_TRIES):
                held = await self._claim(started, fingerprint)
                if not held:
                    return None
                if held[1] != fingerprint:
                    raise EngineError(Reason.IDEMPOTENCY_KEY_REUSED)
                remote = await self._holder(held[0].decode(), held[2].decode(), bool(held[3]), started)
                if remote:
                    return remote
        except UnreachableError:
            return None
        return None

    def release(self, started: Started) -> None:
        """Takes back a claim; see `SharedAnswers`."""
        self._claiming.discard(started.answer_id)
        self._beside(self._forget(started))

    def publish(self, answer: Answer, fingerprint: bytes, stop: Callable[[], None]) -> None:
        """Lets the other engines read an answer; see `SharedAnswers`."""
        head = self._head(answer.started)
        # Where the claim was not made, the stream says so, and the answer is written from its start.
        last_id = codec.START_ID if head.claim else codec.NOTHING
        self._mirror.add(Mirrored(answer, head, fingerprint, stop, last_id))
        self._claiming.discard(answer.started.answer_id)

    async def find(self, answer_id: str) -> RemoteAnswer | None:
        """Returns another engine's answer; see `SharedAnswers`."""
        end = asyncio.get_running_loop().time() + _FIND_SECONDS
        try:
            while True:
                remote = await self._remote(answer_id)
                if remote or asyncio.get_running_loop().time() > end:
                    return remote
                await asyncio.sleep(_POLL_SECONDS)
        except UnreachableError:
            raise EngineError(Reason.ENGINE_UNAVAILABLE) from None

    async def _claim(self, started: Started, fingerprint: bytes) -> list[Any]:
        head = self._head(started)
        keys = (head.claim, log_name(started.answer_id))
        arguments = (started.answer_id, fingerprint, self.engine_id, LIVE_MS, codec.encode_start(head), LEASE_PREFIX)
        held: list[Any] = await self._link.run(lambda client: client.eval(CLAIM, 2, *keys, *arguments))
        return held

    async def _holder(self, answer_id: str, engine_id: str, alive: bool, started: Started) -> RemoteAnswer | None:
        """Returns the answer that holds a claim, or makes sure that it holds it no more."""
        remote = await self._remote(answer_id)
        claim = claim_name(started.student_id, started.key)
        if remote is None:
            await self._link.run(lambda client: client.eval(FORGET, 2, log_name(answer_id), claim, answer_id))
        elif not alive and not await self._returns(engine_id):
            await lost(self._link, answer_id, claim)
            return None
        return remote

    async def _remote(self, answer_id: str) -> RemoteAnswer | None:
        head = await self._log_head(answer_id)
        if head is None:
            return None
        follower = Follower(link=self._link, control=self._control, head=head, longest=self._longest)

        async def follow(answer: Answer) -> None:
            try:
                await follower.follow(answer)
            finally:
                self._beside(self._control.say_left(head.engine_id, answer_id))

        return RemoteAnswer(head.started, follow, follower.stop, lambda: self._link.steady)

    async def _log_head(self, answer_id: str) -> codec.Head | None:
        entries: Any = await self._link.run(lambda client: client.xrange(log_name(answer_id), count=1))
        return codec.decode_head(entries[0][1][codec.FIELD]) if entries else None

    async def _returns(self, engine_id: str) -> bool:
        """Whether an engine without a lease gets it back: after Redis was away it does."""
        end = asyncio.get_running_loop().time() + GONE_SECONDS
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_POLL_SECONDS)
            if await self._link.run(lambda client: client.exists(lease_name(engine_id))):
                return True
        return False

    def _head(self, started: Started) -> codec.Head:
        claim = claim_name(started.student_id, started.key) if started.key else ""
        return codec.Head(started, self.engine_id, claim)

    async def _renew_lease(self) -> None:
        name = lease_name(self.engine_id)
        # A full Redis refuses to write, but not to prolong.
        if not await self._link.attempt(lambda client: client.pexpire(name, LEASE_MS)):
            await self._link.attempt(lambda client: client.set(name, 1, px=LEASE_MS))

    async def _renew_logs(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self._mirror.touch_all()

    def _disown(self, answer_id: str) -> None:
        """Removes a log that nobody writes: Redis made a claim after it was taken back, or the end never got there."""
        if answer_id not in self._claiming:
            self._beside(self._run_disown(answer_id))

    async def _run_disown(self, answer_id: str) -> None:
        with contextlib.suppress(UnreachableError):
            await self._link.run(lambda client: client.eval(DISOWN, 1, log_name(answer_id), answer_id))

    async def _forget(self, started: Started) -> None:
        keys = (log_name(started.answer_id), claim_name(started.student_id, started.key))
        with contextlib.suppress(UnreachableError):
            await self._link.run(lambda client: client.eval(FORGET, 2, *keys, started.answer_id))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log_unexpected(log, error)

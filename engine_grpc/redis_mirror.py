"""Writes what this engine's answers have got to Redis, beside the streams and never in their way.

One task for all answers: whatever has grown since the last round goes in one pipeline, so under load the rounds get
larger, not more. Each answer's entry is only appended behind the one that was written last; where the stream says
otherwise (a write whose reply was lost, a Redis that came back empty), the answer goes on from where the stream is.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import NoScriptError

from engine_grpc import redis_codec as codec
from engine_grpc.answers import nothing
from engine_grpc.errors import EngineError
from engine_grpc.redis_link import UnreachableError
from engine_grpc.redis_scripts import APPEND, FORGET, log_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine_grpc.answers import Answer
    from engine_grpc.redis_link import Client, RedisLink

LIVE_MS = 60_000
"""How long what was written of a live answer is kept when its engine writes no more."""
RENEW_SECONDS = 20
MIN_KEPT_MS = 5_000
"""The least that an ended answer is kept, so that readers on other engines come to its end."""
_PACE_SECONDS = 0.02
"""Between two rounds: readers on other engines lag by as much, and a busy engine writes fewer, larger entries."""
_MOST_IN_A_ROUND = 100
_REFUSED_SECONDS = 0.5
_MOST_ENDED = 1000
"""How many ended answers wait for a Redis that cannot be reached, or refuses to write."""
_SHA = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (APPEND, FORGET)}


@dataclass(slots=True, eq=False)
class Mirrored:
    """An answer, and how much of it is in Redis."""

    answer: Answer
    head: codec.Head
    fingerprint: bytes
    stop: Callable[[], None]
    last_id: str
    writing_id: str = codec.NOTHING

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.answer.ending is not None or self.answer.given_up


class Mirror:
    """Writes answers to Redis until they have ended.

    Args:
        link: The way to Redis.
        answer_ttl: Seconds that an ended answer is kept.
    """

    def __init__(self, link: RedisLink, answer_ttl: float) -> None:
        self._link = link
        self._kept_ms = max(MIN_KEPT_MS, round(answer_ttl * 1000))
        self.mirrored: dict[str, Mirrored] = {}
        """The answers whose end is not in Redis yet, by id."""
        self._grown: dict[Mirrored, None] = {}
        self._scripts_loaded = False
        self._refused = False
        """Whether the last round was refused, as a whole or in part."""
        self._any = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, mirrored: Mirrored) -> None:
        """Writes an answer from now on."""
        self.mirrored[mirrored.answer.started.answer_id] = mirrored
        mirrored.answer.on_grown = self._grew
        self._touch(mirrored)

    def restore(self) -> None:
        """Writes every answer to a Redis that may have lost everything."""
        self._scripts_loaded = False
        self.touch_all()

    def touch_all(self) -> None:
        """Writes every answer, whether it has grown or not: renews what is there, and restores what is not."""
        for mirrored in self.mirrored.values():
            self._touch(mirrored)

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._any.wait()
            await self._link.up.wait()
            await self._round([*self._grown][:_MOST_IN_A_ROUND])
            await asyncio.sleep(_REFUSED_SECONDS if self._refused else _PACE_SECONDS)

    async def flushed(self) -> None:
        """Waits until everything is written."""
        await self._none.wait()

    def _grew(self, answer: Answer) -> None:
        mirrored = self.mirrored[answer.started.answer_id]
        self._touch(mirrored)
        if mirrored.over:
            self._forget_oldest()

    def _touch(self, mirrored: Mirrored) -> None:
        self._grown[mirrored] = None
        self._any.set()
        self._none.clear()

    def _forget_oldest(self) -> None:
        """Forgets the first of too many ended answers, unless they are merely waiting for their turn."""
        if self._link.up.is_set() and not self._refused:
            return
        over = [mirrored for mirrored in self.mirrored.values() if mirrored.over and mirrored in self._grown]
        for mirrored in over[:-_MOST_ENDED]:
            self._finished(mirrored)

    async def _round(self, batch: list[Mirrored]) -> None:
        """Writes some answers."""
        for mirrored in batch:
            self._grown.pop(mirrored, None)
        try:
            results = await self._link.attempt(lambda client: self._write(client, batch))
            self._note(results)
        except UnreachableError:
            results = [None] * len(batch)
            # A Redis that cannot be reached is waited for elsewhere; one that can be has said no to all of it.
            self._refused = self._link.up.is_set()
        for mirrored, result in zip(batch, results, strict=True):
            self._written(mirrored, result)
        self._forget_oldest()
        if not self._grown:
            self._any.clear()
            self._none.set()

    def _note(self, results: list[object]) -> None:
        """Notes whether Redis refused something."""
        errors = [result for result in results if isinstance(result, Exception)]
        self._refused = bool(errors)
        if errors:
            self._scripts_loaded &= not isinstance(errors[0], NoScriptError)
            self._link.refused(errors[0])

    async def _write(self, client: Client, batch: list[Mirrored]) -> list[object]:
        if not self._scripts_loaded:
            for script in _SHA:
                await client.script_load(script)
            self._scripts_loaded = True
        pipeline = client.pipeline(transaction=False)
        for mirrored in batch:
            script, keys, arguments = self._command(mirrored)
            pipeline.evalsha(_SHA[script], len(keys), *keys, *arguments)
        return list(await pipeline.execute(raise_on_error=False))

    def _command(self, mirrored: Mirrored) -> tuple[str, list[str], list[str | bytes | int]]:
        answer, head = mirrored.answer, mirrored.head
        answer_id = answer.started.answer_id
        keys = [log_name(answer_id), *([head.claim] if head.claim else [])]
        if answer.given_up and answer.ending is None:
            return FORGET, keys, [answer_id]
        entry, mirrored.writing_id = codec.encode(answer, head, mirrored.last_id)
        kept = self._kept_ms if answer.ending else LIVE_MS
        claim: list[str | bytes | int] = [_claim_state(answer), answer_id, mirrored.fingerprint, head.engine_id]
        return APPEND, keys, [mirrored.last_id, mirrored.writing_id, entry, kept, *claim]

    def _written(self, mirrored: Mirrored, result: object) -> None:
        """Notes where the stream is now; tries again what did not succeed."""
        answer = mirrored.answer
        if result == b"OK":
            mirrored.last_id = mirrored.writing_id
            ending = answer.ending is not None and mirrored.last_id == f"{len(answer.deltas) + 1}-1"
            if ending or (answer.given_up and answer.ending is None and mirrored not in self._grown):
                self._finished(mirrored)
            return
        if isinstance(result, bytes):
            mirrored.last_id = result.decode()
        if self.mirrored.get(answer.started.answer_id) is mirrored:  # else it was forgotten meanwhile
            self._touch(mirrored)

    def _finished(self, mirrored: Mirrored) -> None:
        mirrored.answer.on_grown = nothing
        self._grown.pop(mirrored, None)
        self.mirrored.pop(mirrored.answer.started.answer_id, None)


def _claim_state(answer: Answer) -> str:
    """Whether the key still names the answer: not where it failed and may be tried again."""
    if answer.ending is None:
        return "live"
    again = isinstance(answer.ending, EngineError) and answer.ending.retryable
    return "released" if again else "ended"

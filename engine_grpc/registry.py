"""Every answer of this engine: found by its id or its idempotency key, kept for a while, given up when nobody reads.

The cancel rule is one line: no reader left and no key, and the writer is cancelled now; with a key, after the resume
window. A cancelled answer is forgotten; an ended one can be replayed until it is too old, or the oldest of too many.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine_grpc.answers import Answer
from engine_grpc.errors import EngineError, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine_grpc.answers import Started

MAX_KEPT_CHARACTERS = 64 * 1024 * 1024
"""How much text of ended answers is kept at most: with Python's strings, 64 to 256 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long answers are kept, in seconds, and how many are written at once."""

    resume_window: float = 30
    """How long an answer with a key goes on without a reader."""
    answer_ttl: float = 300
    """How long an ended answer can be replayed."""
    max_live: int = 1000


@dataclass(slots=True)
class _Entry:
    answer: Answer
    fingerprint: bytes
    writer: asyncio.Future[None]
    giving_up: asyncio.TimerHandle | None = None
    ended_at: float = 0


class Answers:
    """The answers that are being written, and those that have ended and are kept."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._by_id: dict[str, _Entry] = {}
        self._by_key: dict[tuple[str, str], _Entry] = {}
        self._writers: set[asyncio.Future[None]] = set()
        self._ended: OrderedDict[str, _Entry] = OrderedDict()
        self._kept_characters = 0

    @property
    def live(self) -> int:
        """How many answers are being written."""
        return len(self._writers)

    def start(self, started: Started, write: Callable[[Answer], Awaitable[None]], fingerprint: bytes = b"") -> Answer:
        """Starts `write` on a new answer, in a task of its own.

        Args:
            started: How it begins.
            write: Appends and ends; cancelled when the answer is given up or stopped.
            fingerprint: Of the question, to recognise another one under the same key.

        Raises:
            EngineError: OVERLOADED, when too many answers are being written.
        """
        self._expire()
        if len(self._writers) >= self._keeping.max_live:
            raise EngineError(Reason.OVERLOADED)
        answer = Answer(started)
        entry = _Entry(answer, fingerprint, asyncio.ensure_future(write(answer)))
        answer.on_readers = lambda: self._readers_changed(entry)
        self._writers.add(entry.writer)
        self._by_id[started.answer_id] = entry
        if started.key:
            self._by_key[started.student_id, started.key] = entry
        entry.writer.add_done_callback(lambda _: self._written(entry))
        return answer

    def find(self, answer_id: str, student_id: str) -> Answer:
        """Returns an answer of this student.

        Raises:
            EngineError: ANSWER_NOT_FOUND, when there is none, or none any more, or it is another student's.
        """
        self._expire()
        entry = self._by_id.get(answer_id)
        if entry is None or entry.answer.started.student_id != student_id:
            raise EngineError(Reason.ANSWER_NOT_FOUND)
        return entry.answer

    def join(self, student_id: str, key: str, fingerprint: bytes) -> Answer | None:
        """Returns the answer that this student's key names, or None where it names none yet.

        Raises:
            EngineError: IDEMPOTENCY_KEY_REUSED, when the key came with another question.
        """
        self._expire()
        entry = self._by_key.get((student_id, key)) if key else None
        if entry is None:
            return None
        if entry.fingerprint != fingerprint:
            raise EngineError(Reason.IDEMPOTENCY_KEY_REUSED)
        return entry.answer

    def cancel(self, answer: Answer) -> None:
        """Cancels an answer's writer: closes the model's connection."""
        entry = self._by_id.get(answer.started.answer_id)
        if entry:
            entry.writer.cancel()

    async def close(self) -> None:
        """Ends what is still being written with DRAINING, and waits until every writer is gone."""
        for entry in self._by_id.values():
            if not entry.writer.done():
                entry.answer.end(EngineError(Reason.DRAINING))
                entry.writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)

    def _readers_changed(self, entry: _Entry) -> None:
        """Starts giving up an answer that its last reader has left, or ends that because somebody came."""
        if entry.giving_up:
            entry.giving_up.cancel()
            entry.giving_up = None
        if entry.answer.readers:
            return
        if not entry.answer.started.key:
            self._give_up(entry)
            return
        loop = asyncio.get_running_loop()
        entry.giving_up = loop.call_later(self._keeping.resume_window, self._give_up, entry)

    def _give_up(self, entry: _Entry) -> None:
        # Forgotten at once: who comes now with the same key asks anew, and does not join what is being cancelled.
        if entry.answer.ending is None:
            entry.writer.cancel()
            self._forget(entry)

    def _written(self, entry: _Entry) -> None:
        """Keeps an answer that has ended; forgets one that was cancelled, or whose failure may be tried again."""
        self._writers.discard(entry.writer)
        if entry.giving_up:
            entry.giving_up.cancel()
        ending, started = entry.answer.ending, entry.answer.started
        if ending is None:
            self._forget(entry)
            return
        if isinstance(ending, EngineError) and ending.retry_after is not None:
            self._by_key.pop((started.student_id, started.key), None)
        entry.ended_at = asyncio.get_running_loop().time()
        self._ended[started.answer_id] = entry
        self._kept_characters += len(entry.answer.text)
        self._expire()

    def _expire(self) -> None:
        """Forgets the ended answers that are too old, and the oldest of too many."""
        old = asyncio.get_running_loop().time() - self._keeping.answer_ttl
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if oldest.ended_at > old and self._kept_characters <= MAX_KEPT_CHARACTERS:
                return
            self._forget(oldest)

    def _forget(self, entry: _Entry) -> None:
        started = entry.answer.started
        self._by_id.pop(started.answer_id, None)
        if self._by_key.get((started.student_id, started.key)) is entry:
            del self._by_key[started.student_id, started.key]
        if self._ended.pop(started.answer_id, None):
            self._kept_characters -= len(entry.answer.text)

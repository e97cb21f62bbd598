"""Every answer of this engine: found by its id or its idempotency key, kept for a while, given up when nobody reads.

The cancel rule is one line: no reader left and no key, and the writer is cancelled now; with a key, after the resume
window. A cancelled answer is forgotten; an ended one can be replayed until it is too old, or the oldest of too many.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine_grpc.answers import Answer
from engine_grpc.errors import EngineError, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from engine_grpc.answers import Started
    from engine_grpc.shared import RemoteAnswer

_ENTRY_BYTES = 2500
"""About what one takes in memory beside its text and its question."""

_DRAIN_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long answers are kept, in seconds, and how many."""

    resume_window: float
    """How long an answer with a key goes on without a reader."""
    answer_ttl: float
    """How long an ended answer can be replayed."""
    max_live: int
    """How many are written at once."""
    max_ended_bytes: int = 128 * 1024 * 1024
    """How much memory the ended ones take at most, about."""


@dataclass(slots=True)
class _Entry:
    answer: Answer
    fingerprint: bytes
    writer: asyncio.Future[None]
    remote: RemoteAnswer | None = None
    """Set where another engine writes the answer and `writer` only copies it."""
    giving_up: asyncio.TimerHandle | None = None
    ended_at: float = 0

    @property
    def size(self) -> int:
        """Bytes that it takes, about, once it has ended."""
        return _ENTRY_BYTES + self.answer.deltas.size + len(self.answer.started.question.encode())


class Answers:
    """The answers that are being written, and those that have ended and are kept.

    Args:
        keeping: How long, and how many.
        on_written: Called once with each answer that was started here, when its writer is gone.
    """

    def __init__(self, keeping: Keeping, on_written: Callable[[Answer], object]) -> None:
        self._keeping = keeping
        self._on_written = on_written
        self._by_id: dict[str, _Entry] = {}
        self._by_key: dict[tuple[str, str], _Entry] = {}
        self._writers: set[asyncio.Future[None]] = set()
        self._ended: OrderedDict[str, _Entry] = OrderedDict()
        self._ended_bytes = 0
        self._arriving = 0

    @contextmanager
    def room(self, *, may_join: bool = False) -> Iterator[None]:
        """Keeps room for an answer while its question is on its way.

        Args:
            may_join: The question may turn out to have an answer already; so it is let in without room, too.

        Raises:
            EngineError: OVERLOADED, there is none.
        """
        if not may_join and len(self._writers) + self._arriving >= self._keeping.max_live:
            raise EngineError(Reason.OVERLOADED)
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

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
        answer.on_readers = self._readers_changed
        self._writers.add(entry.writer)
        self._by_id[started.answer_id] = entry
        if started.key:
            self._by_key[started.student_id, started.key] = entry
        entry.writer.add_done_callback(lambda _: self._written(entry))
        return answer

    def follow(self, remote: RemoteAnswer, copy: Callable[[Answer], Awaitable[None]]) -> Answer:
        """Returns an answer that another engine writes, as it is read here; starts `copy` on it where it is not yet.

        A copy is kept for as long as somebody reads it. It is not one of the answers that this engine writes.
        """
        known = self._by_id.get(remote.started.answer_id)
        if known:
            return known.answer
        answer = Answer(remote.started)
        entry = _Entry(answer, b"", asyncio.ensure_future(copy(answer)), remote)
        answer.on_readers = self._readers_changed
        self._by_id[remote.started.answer_id] = entry
        entry.writer.add_done_callback(lambda _: self._forget(entry))
        return answer

    def remote(self, answer: Answer) -> RemoteAnswer | None:
        """Returns where an answer is written, unless it is or was written here."""
        entry = self._by_id.get(answer.started.answer_id)
        return entry.remote if entry else None

    def knows(self, answer_id: str) -> bool:
        """Whether the answer is written, kept or read here."""
        self._expire()
        return answer_id in self._by_id

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

    async def unread(self) -> None:
        """Waits until nobody, on this engine or another, reads an answer that is being written here."""
        while read := [e.writer for e in self._by_id.values() if e.answer.readers and e.writer in self._writers]:
            await asyncio.wait(read, timeout=_DRAIN_POLL_SECONDS)

    async def close(self) -> None:
        """Ends what is still being written with DRAINING, and waits until every writer is gone."""
        writers = [entry.writer for entry in self._by_id.values() if not entry.writer.done()]
        for entry in self._by_id.values():
            if not entry.writer.done():
                entry.answer.end(EngineError(Reason.DRAINING))
                entry.writer.cancel()
        await asyncio.gather(*writers, *self._writers, return_exceptions=True)

    def _readers_changed(self, answer: Answer) -> None:
        """Starts giving up an answer that its last reader has left, or ends that because somebody came."""
        entry = self._by_id.get(answer.started.answer_id)
        if entry is None:
            return
        if entry.giving_up:
            entry.giving_up.cancel()
            entry.giving_up = None
        if answer.readers:
            return
        loop = asyncio.get_running_loop()
        if entry.remote:
            # Its window is kept where it is written. Not at once: the next reader may come in this turn of the loop.
            entry.giving_up = loop.call_later(0, self._give_up, entry)
        elif answer.started.key:
            entry.giving_up = loop.call_later(self._keeping.resume_window, self._give_up, entry)
        else:
            self._give_up(entry)

    def _give_up(self, entry: _Entry) -> None:
        # Forgotten at once: who comes now with the same key asks anew, and does not join what is being cancelled.
        if entry.answer.ending is None:
            entry.answer.give_up()
            entry.writer.cancel()
            self._forget(entry)

    def _written(self, entry: _Entry) -> None:
        """Keeps an answer that has ended; forgets one that was cancelled, or whose failure may be tried again."""
        self._writers.discard(entry.writer)
        # Here, and not in the writer: one that is cancelled before its first step never runs.
        self._on_written(entry.answer)
        if entry.giving_up:
            entry.giving_up.cancel()
        ending, started = entry.answer.ending, entry.answer.started
        if ending is None:
            entry.answer.give_up()
            self._forget(entry)
            return
        if isinstance(ending, EngineError) and ending.retryable:
            self._release_key(entry)
        entry.ended_at = asyncio.get_running_loop().time()
        self._ended[started.answer_id] = entry
        self._ended_bytes += entry.size
        self._expire()

    def _expire(self) -> None:
        """Forgets the ended answers that are too old, and the oldest of too many."""
        old = asyncio.get_running_loop().time() - self._keeping.answer_ttl
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if oldest.ended_at > old and self._ended_bytes <= self._keeping.max_ended_bytes:
                return
            self._forget(oldest)

    def _forget(self, entry: _Entry) -> None:
        started = entry.answer.started
        if self._by_id.get(started.answer_id) is entry:
            del self._by_id[started.answer_id]
        self._release_key(entry)
        if self._ended.pop(started.answer_id, None):
            self._ended_bytes -= entry.size

    def _release_key(self, entry: _Entry) -> None:
        """Lets the key of an answer name another one, unless it does already."""
        name = entry.answer.started.student_id, entry.answer.started.key
        if self._by_key.get(name) is entry:
            del self._by_key[name]

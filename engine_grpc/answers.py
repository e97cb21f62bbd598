"""The one idea: an answer is an append-only log, and its readers are cursors.

One writer appends deltas and, at last, one ending. Each reader takes everything past its cursor as one piece and
sleeps until there is more, so a slow reader costs nothing and misses nothing, and live, resumed, replayed and unary
answers are the same by construction. There are no queues here, and no timers.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from engine_grpc.deltas import Deltas
from engine_grpc.errors import EngineError
from engine_grpc.model import FinishReason, Usage

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How an answer begins."""

    student_id: str
    """Who asked, and who alone may read."""
    session_id: str
    model: str
    settled: bool = True
    """Whether it is sure that `model` answers, and no other in its place."""
    question: str = ""
    """The student's words, which the session remembers with the answer."""
    key: str = ""
    """The idempotency key; without one nobody can come back to the answer while it is written."""
    answer_id: str = field(default_factory=lambda: secrets.token_hex(16))
    """128 random bits: whoever knows it was told it."""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Piece:
    """Text a reader has not seen, and the number of its last delta."""

    sequence: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How an answer ends well."""

    finish_reason: FinishReason
    usage: Usage
    elapsed: float
    """Seconds since the answer was started."""


Ending = Finished | EngineError


def nothing(_answer: Answer) -> None:
    """No-op default for the callbacks."""


def _unknown(_text: str) -> Usage:
    return Usage(0, 0, 0, estimated=True)


class Answer:
    """One answer: its start, its deltas, its ending, and whoever waits for more.

    Deltas are numbered from 1; the start is 0 and the ending comes one after the last delta.
    """

    __slots__ = (
        "_began",
        "_loop",
        "_wakers",
        "deltas",
        "ending",
        "estimate",
        "given_up",
        "most_readers",
        "on_grown",
        "on_read",
        "on_readers",
        "readers",
        "started",
    )

    def __init__(self, started: Started) -> None:
        self.started = started
        self.deltas = Deltas()
        self.ending: Ending | None = None
        self.readers = 0
        self.most_readers = 0
        """At once, so far."""
        # Called with the answer: closures that know it would make it garbage that only a full collection finds.
        self.on_readers: Callable[[Answer], object] = nothing
        """Called when the first reader comes, and when the last one leaves before the ending."""
        self.on_read: Callable[[Answer], object] = nothing
        """Called when a reader has come to the ending."""
        self.on_grown: Callable[[Answer], object] = nothing
        """Called whenever there is more of the answer, or its ending, or when it is given up."""
        self.given_up = False
        """Whether its writer was cancelled because nobody read: it has no ending, and gets none."""
        self.estimate: Callable[[str], Usage] = _unknown
        """Estimates the tokens that the answer has taken with the text given, for a provider that reports none."""
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._wakers: list[asyncio.Future[None]] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the answer was started."""
        return self._loop.time() - self._began

    @property
    def text(self) -> str:
        """All of the text so far."""
        return self.deltas.text()

    def settle(self, model: str) -> None:
        """Says which model answers, before its first text. The writer's alone."""
        if not self.started.settled:
            self.started = replace(self.started, model=model, settled=True)

    async def begun(self) -> Started:
        """The start, once it is known which model answers: at once, or with the first text or the ending."""
        if not self.started.settled:
            await self.grown(0)
        return self.started

    def append(self, text: str) -> None:
        """Adds a delta and wakes the readers; after the ending it changes nothing. The writer's alone."""
        if self.ending is None:
            self.deltas.append(text)
            self._wake()

    def end(self, ending: Ending) -> None:
        """Ends the answer and wakes the readers. Only the first ending counts."""
        if self.ending is None:
            self.ending = ending.alone() if isinstance(ending, EngineError) else ending
            self._wake()

    def give_up(self) -> None:
        """Marks an answer that nobody wants any more."""
        self.given_up = True
        self.on_grown(self)

    def stop(self) -> None:
        """Ends the answer with the text it has, because somebody asked for that."""
        self.end(Finished(FinishReason.STOPPED, self.estimate(self.text), self.elapsed))

    def reader(self, after: int = 0, boundary: int = 0) -> Reader:
        """Returns a cursor behind the delta numbered `after`, counted as a reader while it is entered.

        A piece ends at the delta numbered `boundary`, if it comes to it.
        """
        return Reader(self, after, boundary)

    async def grown(self, cursor: int) -> None:
        """Waits until there is something past `cursor`: a delta, or the ending."""
        while len(self.deltas) <= cursor and self.ending is None:
            waker = self._loop.create_future()
            self._wakers.append(waker)
            try:
                await waker
            finally:
                self._wakers.remove(waker)

    def _wake(self) -> None:
        self.on_grown(self)
        for waker in self._wakers:
            if not waker.done():
                waker.set_result(None)


class Reader:
    """A cursor in an answer: enter it, iterate for the pieces, then read `finished`."""

    __slots__ = ("_answer", "_boundary", "_cursor")

    def __init__(self, answer: Answer, cursor: int, boundary: int) -> None:
        self._answer = answer
        self._cursor = cursor
        self._boundary = boundary

    def __enter__(self) -> Self:
        answer = self._answer
        answer.readers += 1
        answer.most_readers = max(answer.most_readers, answer.readers)
        if answer.readers == 1:
            answer.on_readers(answer)
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.readers -= 1
        if self._answer.readers == 0 and self._answer.ending is None:
            self._answer.on_readers(self._answer)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Piece:
        """Everything past the cursor, as soon as there is anything.

        Raises:
            EngineError: How the answer failed, once all of its text has been read.
        """
        await self._answer.grown(self._cursor)
        deltas, after = self._answer.deltas, self._cursor
        if len(deltas) > after:
            self._cursor = min(len(deltas), self._boundary) if after < self._boundary else len(deltas)
            return Piece(self._cursor, deltas.text(after, self._cursor))
        self._answer.on_read(self._answer)
        if isinstance(self._answer.ending, EngineError):
            raise self._answer.ending.alone()
        raise StopAsyncIteration

    @property
    def finished(self) -> tuple[int, Finished]:
        """The ending's number and the ending, once the iteration is over."""
        assert isinstance(self._answer.ending, Finished)
        return len(self._answer.deltas) + 1, self._answer.ending

"""The one idea: an answer is an append-only log, and its readers are cursors.

One writer appends deltas and, at last, one ending. Each reader takes everything past its cursor as one piece and
sleeps until there is more, so a slow reader costs nothing and misses nothing, and a stream and a unary call over
the same answer are the same by construction. There are no queues and no timers here. When the last reader leaves an
answer that nobody can come back to, its writer is cancelled: that closes the model's connection.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine_grpc.errors import EngineError, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from engine_grpc.model import FinishReason, Usage


@dataclass(frozen=True, slots=True)
class Started:
    """How an answer begins."""

    session_id: str
    model: str
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


class Answer:
    """One answer: its start, its deltas, its ending, and whoever waits for more.

    Deltas are numbered from 1; the start is 0 and the ending comes one after the last delta.
    """

    def __init__(self, started: Started) -> None:
        self.started = started
        self.deltas: list[str] = []
        self.ending: Finished | EngineError | None = None
        self.abandoned: Callable[[], object] = lambda: None
        """Called when the last reader leaves before the ending."""
        self._began = asyncio.get_running_loop().time()
        self._readers = 0
        self._wakers: set[asyncio.Future[None]] = set()

    @property
    def elapsed(self) -> float:
        """Seconds since the answer was started."""
        return asyncio.get_running_loop().time() - self._began

    @property
    def text(self) -> str:
        """All of the text so far."""
        return "".join(self.deltas)

    def append(self, text: str) -> None:
        """Adds a delta and wakes the readers. The writer's alone."""
        self.deltas.append(text)
        self._wake()

    def end(self, ending: Finished | EngineError) -> None:
        """Ends the answer and wakes the readers. Only the first ending counts."""
        if self.ending is None:
            self.ending = ending
            self._wake()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A cursor at the start, counted as a reader until it is left."""
        self._readers += 1
        try:
            yield Reader(self)
        finally:
            self._readers -= 1
            if self._readers == 0 and self.ending is None:
                self.abandoned()

    async def grown(self, cursor: int) -> None:
        """Waits until there is something past `cursor`: a delta, or the ending."""
        while len(self.deltas) == cursor and self.ending is None:
            waker = asyncio.get_running_loop().create_future()
            self._wakers.add(waker)
            try:
                await waker
            finally:
                self._wakers.discard(waker)

    def _wake(self) -> None:
        for waker in self._wakers:
            if not waker.done():
                waker.set_result(None)


class Reader:
    """A cursor in an answer: iterate for the pieces, then read `finished`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._cursor = 0

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Piece:
        """Everything past the cursor, as soon as there is anything.

        Raises:
            EngineError: How the answer failed, once all of its text has been read.
        """
        await self._answer.grown(self._cursor)
        unread = self._answer.deltas[self._cursor :]
        if unread:
            self._cursor += len(unread)
            return Piece(self._cursor, unread[0] if len(unread) == 1 else "".join(unread))
        if isinstance(self._answer.ending, EngineError):
            raise self._answer.ending
        raise StopAsyncIteration

    @property
    def finished(self) -> tuple[int, Finished]:
        """The ending's number and the ending, once the iteration is over."""
        assert isinstance(self._answer.ending, Finished)
        return self._cursor + 1, self._answer.ending


class Answers:
    """The answers being written, at most `limit` at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._writers: dict[asyncio.Future[None], Answer] = {}

    @property
    def live(self) -> int:
        """How many answers are being written."""
        return len(self._writers)

    def start(self, started: Started, write: Callable[[Answer], Awaitable[None]]) -> Answer:
        """Starts `write` on a new answer, as a task of its own that the last reader's leaving cancels.

        Raises:
            EngineError: OVERLOADED, when too many answers are being written.
        """
        if len(self._writers) >= self._limit:
            raise EngineError(Reason.OVERLOADED)
        answer = Answer(started)
        writer = asyncio.ensure_future(write(answer))
        answer.abandoned = writer.cancel
        self._writers[writer] = answer
        writer.add_done_callback(self._writers.pop)
        return answer

    async def close(self) -> None:
        """Ends what is still being written with DRAINING, and waits until every writer is gone."""
        for writer, answer in self._writers.items():
            answer.end(EngineError(Reason.DRAINING))
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)

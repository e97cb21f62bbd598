"""Drives a model: appends what it says to an answer within the model's deadlines, and ends the answer if it fails."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from engine_grpc import metrics
from engine_grpc.answers import Finished
from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.model import Begun, Delta, Done, FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from engine_grpc.answers import Answer
    from engine_grpc.model import ModelEvent, Usage

log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES = 1024 * 1024
"""A hundred times the longest answer that a model is asked for, and a quarter of what a gRPC client takes as one
message: a server that does not stop by itself is stopped here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long the model may take, in seconds."""

    first_token: float
    """From asking to the first text, all tries included."""
    stall: float
    """From one text to the next."""
    answer: float
    """From asking to the end."""


async def write(answer: Answer, events: AsyncGenerator[ModelEvent, None], deadlines: Deadlines) -> None:
    """Lets a model write an answer, and ends it whatever happens, unless the task is cancelled.

    Args:
        answer: A new one.
        events: What the model says. Until the first of them, the deadline is the model's own to keep.
        deadlines: For the others.
    """
    await ended(answer, lambda answer: _read(answer, events, deadlines))


async def ended(answer: Answer, write: Callable[[Answer], Awaitable[None]]) -> None:
    """Has `write` write an answer to its end, and ends it with whatever makes that fail."""
    try:
        await write(answer)
    except EngineError as error:
        answer.end(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the readers must be told
        log_unexpected(log, error)
        answer.end(EngineError(Reason.INTERNAL))


async def _read(answer: Answer, events: AsyncGenerator[ModelEvent, None], deadlines: Deadlines) -> None:
    loop = asyncio.get_running_loop()
    last = loop.time() + deadlines.answer
    timings = metrics.TokenTimings(loop.time() - answer.elapsed)
    try:
        async with asyncio.timeout(None) as timeout, aclosing(events):
            stall = _StallTimer(timeout, deadlines.stall, last)
            async for event in events:
                now = loop.time()
                _take(answer, event, timings, now)
                if answer.deltas.size > MAX_ANSWER_BYTES:
                    _end(answer, FinishReason.LENGTH, None)
                    return
                stall.put_off(now)
    except TimeoutError:
        late = loop.time() >= last
        raise EngineError(Reason.DEADLINE_EXCEEDED if late else Reason.UPSTREAM_TIMEOUT) from None


def _take(answer: Answer, event: ModelEvent, timings: metrics.TokenTimings, now: float) -> None:
    """Does to an answer what an event of its model says."""
    match event:
        case Delta():
            answer.append(event.text)
            timings.text(now)
        case Begun():
            answer.settle(event.model)
        case Done():
            _end(answer, event.finish_reason, event.usage)


def _end(answer: Answer, reason: FinishReason, used: Usage | None) -> None:
    answer.end(Finished(reason, used or answer.estimate(answer.text), answer.elapsed))


class _StallTimer:
    """A time-out that every event puts off, but never beyond the last moment of the answer.

    Args:
        timeout: What to put off, in the loop's time.
        stall: Seconds from one event to the next.
        last: The last moment.
    """

    __slots__ = ("_last", "_set_to", "_stall", "_timeout")

    def __init__(self, timeout: asyncio.Timeout, stall: float, last: float) -> None:
        self._timeout = timeout
        self._stall = stall
        self._last = last
        self._set_to = 0.0

    def put_off(self, now: float) -> None:
        """Allows for so many seconds more from now on."""
        # A timer costs more than a token: it is put off by a little too much, and so for many at once.
        if self._set_to < now + self._stall:
            self._set_to = now + self._stall * 1.05
            self._timeout.reschedule(min(self._last, self._set_to))

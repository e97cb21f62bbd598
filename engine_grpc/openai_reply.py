"""Reads one reply of OpenAI's Chat Completions wire into events, from its head to its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from engine_grpc import tracing
from engine_grpc.errors import EngineError, Reason
from engine_grpc.event_stream import EventStreamDecoder, EventTooLargeError
from engine_grpc.model import Delta, Done
from engine_grpc.openai_wire import DONE, TextJoiner, parse_chunk

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from engine_grpc.model import FinishReason, ModelEvent, Usage
    from engine_grpc.openai_transport import Body

_DRAIN_SECONDS = 0.1
_DRAIN_BYTES = 64 * 1024


class Reply:
    """An answer that a server is writing. Close it after use.

    What one read of the socket brought becomes one delta: no time is lost, and a fast model costs few wake-ups.

    Args:
        body: The response's; it is read and closed here.
        model: Who writes it.
        usage_grace: Seconds to wait for the usage report after the finish reason.
        span: The request's; it is ended here.
    """

    __slots__ = ("_answer", "_body", "_ended", "_first", "_span", "_usage_grace", "model")

    def __init__(self, body: Body, model: str, usage_grace: float, span: Span) -> None:
        self.model = model
        self._body = body
        self._usage_grace = usage_grace
        self._span = span
        self._answer = _Answer()
        self._first: ModelEvent | None = None
        self._ended = False

    async def begin(self) -> None:
        """Waits for the first event, which `next` then returns.

        Raises:
            EngineError: As `next`.
        """
        self._first = await self.next()
        self._span.add_event("first token")

    async def next(self) -> ModelEvent | None:
        """Returns the next event; None behind the last.

        Raises:
            EngineError: UPSTREAM_TRUNCATED, UPSTREAM_PROTOCOL, or what the server says in the stream.
        """
        if self._first:
            first, self._first = self._first, None
            return first
        while not self._answer.over:
            if text := self._answer.feed(await self._body.read()):
                return Delta(text)
        if self._ended:
            if not self._body.over:
                await drain(self._body)
            return None
        if not self._answer.complete and (text := await self._late_text()):
            return Delta(text)
        self._ended = True
        return self._done()

    def close(self) -> None:
        """Closes the connection, unless all was read and it can be used again."""
        self._body.close()
        self._span.end()

    def _done(self) -> Done:
        try:
            done = self._answer.done()
        except EngineError as error:
            tracing.failed(self._span, str(error.reason))
            raise
        tracing.answered(self._span, done)
        return done

    async def _late_text(self) -> str:
        """Reads on for the usage report, once the model has named its finish reason; returns late text, if any."""
        texts = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self._usage_grace):
                while not self._answer.complete:
                    texts.append(self._answer.feed(await self._body.read()))
        if not self._answer.complete:
            texts.append(self._answer.feed(b""))
        return "".join(texts)


async def drain(body: Body) -> None:
    """Reads a body to its end, if that is near and comes at once, so that the connection can be used again."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size < _DRAIN_BYTES and (piece := await body.read()):
                size += len(piece)


class _Answer:
    """What has been read of one answer."""

    __slots__ = ("_decoder", "_failure", "_finish_reason", "_joiner", "_usage", "complete")

    def __init__(self) -> None:
        self.complete = False
        """Nothing more is to come: [DONE], the end of the body, or a fault."""
        self._finish_reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._failure: EngineError | None = None
        self._decoder = EventStreamDecoder()
        self._joiner = TextJoiner()

    @property
    def over(self) -> bool:
        """The model has said its last word, or it never will."""
        return self.complete or self._finish_reason is not None

    def feed(self, piece: bytes) -> str:
        """Returns the text in a piece of the body; nothing is its end. A fault waits for `done`."""
        texts: list[str] = []
        try:
            for data in self._decoder.feed(piece):
                texts.append(self._event(data))  # noqa: PERF401 - what came before a fault must stay
        except EngineError as error:
            self._failure, self.complete = error, True
        except EventTooLargeError:
            self._failure, self.complete = EngineError(Reason.UPSTREAM_PROTOCOL), True
        self.complete = self.complete or not piece
        text = self._joiner.add("".join(texts))
        return text + self._joiner.flush() if self.complete else text

    def _event(self, data: bytes) -> str:
        if self.complete or data.strip() == DONE:
            self.complete = True
            return ""
        chunk = parse_chunk(data)
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        return chunk.text

    def done(self) -> Done:
        """The end.

        Raises:
            EngineError: There was none: the body was faulty, or broke off.
        """
        if self._finish_reason:
            return Done(self._finish_reason, self._usage)
        raise self._failure or EngineError(Reason.UPSTREAM_TRUNCATED)

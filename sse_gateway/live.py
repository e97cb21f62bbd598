"""One answer on its way from the engine's messages to a client's events."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import structlog

from sse_gateway.errors import ErrorCode, GatewayError, error_event
from sse_gateway.sse import EventStreamResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request

    from sse_gateway.events import AnswerEvents, AnswerMessage
    from sse_gateway.record import RequestRecord
    from sse_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)


class NothingNewError(Exception):
    """The client has seen all of the answer, its last event too."""


class LiveAnswer:
    """One answer on its way from the engine to a client; see `sse_gateway.sse.EventSource`."""

    __slots__ = ("_events", "_messages", "_record")

    def __init__(
        self, messages: AsyncGenerator[AnswerMessage, None], record: RequestRecord, events: AnswerEvents
    ) -> None:
        self._messages = messages
        self._record = record
        self._events = events

    def take(self) -> bytes:
        """Returns the events that the client has not seen."""
        return self._events.take()

    @property
    def ended(self) -> bool:
        """Whether the last event was taken."""
        return self._events.ended

    async def run(self, grew: Callable[[], Awaitable[None]]) -> None:
        """Folds the engine's messages into events, to the last one."""
        try:
            await self._fold(grew)
        except Exception as error:  # a boundary of its own: once the head is sent, only an event can tell
            if not self._events.caught_up:
                raise
            self._fail(error)
            if not self._events.nothing_new:
                await grew()
        finally:
            self._record.answer_id = self._events.answer_id
        if self._events.nothing_new:
            raise NothingNewError

    async def _fold(self, grew: Callable[[], Awaitable[None]]) -> None:
        async with aclosing(self._messages) as messages:
            async for message in messages:
                self._events.fold(message)
                if self._events.caught_up and not self._events.nothing_new:
                    await grew()
        self._events.check_complete()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, GatewayError):
            log.error("unexpected exception", exc_info=error)
            error = GatewayError(ErrorCode.INTERNAL)
        if not self._events.complete:  # else the client is told that the answer is whole, and it is
            self._events.fail(error_event(error, self._record, partial=self._events.has_text))


def event_stream(answer: LiveAnswer, request: Request, settings: GatewaySettings) -> EventStreamResponse:
    """Returns the response that streams an answer's events."""
    accepted = request.headers.get("accept-encoding", "") if settings.enable_response_compression else ""
    return EventStreamResponse(answer, heartbeat_seconds=settings.heartbeat_seconds, accept_encoding=accepted)

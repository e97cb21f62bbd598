"""The two routes that answer a question: as a stream of events, and as one reply."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Request, Response
from studyai.v1.chat_pb2 import ChatImageRequest, ChatImageResponse, CompleteChatImageRequest

from sse_gateway.access import RequestRecord
from sse_gateway.dependencies import AppParts, Record
from sse_gateway.disconnect import while_connected
from sse_gateway.errors import ErrorCode, GatewayError, error_event
from sse_gateway.events import AnswerEvents, answer_reply
from sse_gateway.openapi import ERROR_RESPONSES, QUESTION, STREAM_RESPONSE
from sse_gateway.question import AskedQuestion, read_question
from sse_gateway.schemas import AnswerReply
from sse_gateway.sse import EventStreamResponse

log = structlog.get_logger(__name__)

router = APIRouter(tags=["chat"], responses=ERROR_RESPONSES)

FALLBACK_ENDPOINT = "/api/ai/chat-image"

Asked = Annotated[AskedQuestion, Depends(read_question)]


async def chat_image_stream(asked: Asked, parts: AppParts, record: Record) -> Response:
    """Streams the answer while the model writes it."""
    record.fallback_endpoint = FALLBACK_ENDPOINT
    messages = parts.engine.stream(ChatImageRequest(question=asked.question), record.request_id)
    return EventStreamResponse(
        LiveAnswer(messages, record, accumulate=asked.accumulate),
        heartbeat_seconds=parts.settings.heartbeat_seconds,
        stall_seconds=parts.settings.write_stall_timeout_seconds,
    )


async def chat_image(asked: Asked, parts: AppParts, record: Record, request: Request) -> AnswerReply:
    """Returns the whole answer at once: the fallback for clients that cannot read a stream."""
    question = CompleteChatImageRequest(question=asked.question)
    async with while_connected(request.receive):
        return answer_reply(await parts.engine.complete(question, record.request_id))


class LiveAnswer:
    """One answer on its way from the engine to a client; see `sse_gateway.sse.EventSource`."""

    def __init__(
        self, messages: AsyncGenerator[ChatImageResponse, None], record: RequestRecord, *, accumulate: bool
    ) -> None:
        self._messages = messages
        self._record = record
        self._events = AnswerEvents(accumulate=accumulate)

    def take(self) -> bytes:
        """Returns the events that the client has not seen."""
        return self._events.take()

    @property
    def ended(self) -> bool:
        """Whether the last event was taken."""
        return self._events.ended

    async def run(self, grew: Callable[[], None]) -> None:
        """Folds the engine's messages into events, to the last one."""
        try:
            await self._fold(grew)
        except Exception as error:
            if not self._events.started:
                raise
            self._fail(error)
            grew()

    async def _fold(self, grew: Callable[[], None]) -> None:
        async with aclosing(self._messages) as messages:
            async for message in messages:
                self._events.fold(message)
                if self._events.started:
                    grew()
        self._events.check_complete()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, GatewayError):
            log.error("unexpected exception", exc_info=error)
            error = GatewayError(ErrorCode.INTERNAL)
        if self._events.complete:
            return  # The answer is whole, and the client was told so.
        self._events.fail(error_event(error, self._record, partial=self._events.has_text))


_STREAM: dict[str, Any] = {"response_class": Response, "responses": STREAM_RESPONSE, "openapi_extra": QUESTION}
_FALLBACK: dict[str, Any] = {"response_model_exclude_unset": True, "openapi_extra": QUESTION}

router.post("/api/ai/chat-image-stream", summary="Stream an answer", **_STREAM)(chat_image_stream)
router.post("/api/ai/chat-image", summary="Answer in one reply", **_FALLBACK)(chat_image)
router.post("/api/v1/chat-image-stream", summary="Stream an answer (former path)", **_STREAM)(chat_image_stream)
router.post("/api/v1/chat-image", summary="Answer in one reply (former path)", **_FALLBACK)(chat_image)

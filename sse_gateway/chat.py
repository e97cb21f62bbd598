"""The two routes that answer a question: as a stream of events, and as one reply."""

from typing import Any

from fastapi import APIRouter, Request, Response
from studyai.v1.chat_pb2 import ChatImageRequest, CompleteChatImageRequest

from sse_gateway.dependencies import Deadline, Parts
from sse_gateway.disconnect import Client, while_connected
from sse_gateway.engine import CallOptions
from sse_gateway.events import AnswerEvents, answer_reply
from sse_gateway.live import LiveAnswer, event_stream
from sse_gateway.openapi import ERROR_RESPONSES, QUESTION, REPLY_RESPONSE, STREAM_RESPONSE
from sse_gateway.question import Asked
from sse_gateway.record import RequestRecord
from sse_gateway.schemas import AnswerReply

router = APIRouter(tags=["chat"], responses=ERROR_RESPONSES)

FALLBACK_ENDPOINT = "/api/ai/chat-image"


async def chat_image_stream(asked: Asked, deadline: Deadline, request: Request) -> Response:
    """Streams the answer while the model writes it."""
    parts, record = Parts.of(request), RequestRecord.of(request)
    record.fallback_endpoint = FALLBACK_ENDPOINT
    options = CallOptions(record.request_id, deadline, asked.accepted)
    messages = parts.engine.stream(asked.hand_over(ChatImageRequest), options)
    return event_stream(
        LiveAnswer(messages, record, AnswerEvents(accumulate=asked.accumulate)), request, parts.settings
    )


async def chat_image(asked: Asked, deadline: Deadline, request: Request) -> AnswerReply:
    """Returns the whole answer at once: the fallback for clients that cannot read a stream."""
    options = CallOptions(RequestRecord.of(request).request_id, deadline, asked.accepted)
    async with while_connected(Client.of(request.scope)):
        return answer_reply(await Parts.of(request).engine.complete(asked.hand_over(CompleteChatImageRequest), options))


_STREAM: dict[str, Any] = {"response_class": Response, "responses": STREAM_RESPONSE, "openapi_extra": QUESTION}
_FALLBACK: dict[str, Any] = {
    "response_model_exclude_unset": True,
    "responses": REPLY_RESPONSE,
    "openapi_extra": QUESTION,
}

router.post("/api/ai/chat-image-stream", summary="Stream an answer", **_STREAM)(chat_image_stream)
router.post("/api/ai/chat-image", summary="Answer in one reply", **_FALLBACK)(chat_image)
router.post("/api/v1/chat-image-stream", summary="Stream an answer (former path)", **_STREAM)(chat_image_stream)
router.post("/api/v1/chat-image", summary="Answer in one reply (former path)", **_FALLBACK)(chat_image)

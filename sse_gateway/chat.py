"""The two routes that answer a question: as a stream of events, and as one reply."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from studyai.v1.chat_pb2 import ChatImageRequest, CompleteChatImageRequest

from sse_gateway.dependencies import AppParts, Record
from sse_gateway.disconnect import while_connected
from sse_gateway.events import AnswerEvents, answer_reply
from sse_gateway.live import LiveAnswer, event_stream
from sse_gateway.openapi import ERROR_RESPONSES, QUESTION, STREAM_RESPONSE
from sse_gateway.question import AskedQuestion, read_question
from sse_gateway.schemas import AnswerReply

router = APIRouter(tags=["chat"], responses=ERROR_RESPONSES)

FALLBACK_ENDPOINT = "/api/ai/chat-image"

Asked = Annotated[AskedQuestion, Depends(read_question)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="Names this question. Whoever asks again with the same key, on either route, gets the same answer, "
        "live or replayed, and the model is asked once. Visible ASCII.",
        examples=["3f0d6a52-7c1e-4a0b-9d54-0b8b6f1c2e77"],
    ),
]


async def chat_image_stream(asked: Asked, parts: AppParts, record: Record, key: IdempotencyKey = None) -> Response:
    """Streams the answer while the model writes it."""
    record.fallback_endpoint = FALLBACK_ENDPOINT
    question = ChatImageRequest(question=asked.question, request_id=key or "")
    messages = parts.engine.stream(question, record.request_id)
    return event_stream(LiveAnswer(messages, record, AnswerEvents(accumulate=asked.accumulate)), parts.settings)


async def chat_image(
    asked: Asked, parts: AppParts, record: Record, request: Request, key: IdempotencyKey = None
) -> AnswerReply:
    """Returns the whole answer at once: the fallback for clients that cannot read a stream."""
    question = CompleteChatImageRequest(question=asked.question, request_id=key or "")
    async with while_connected(request.receive):
        return answer_reply(await parts.engine.complete(question, record.request_id))


_STREAM: dict[str, Any] = {"response_class": Response, "responses": STREAM_RESPONSE, "openapi_extra": QUESTION}
_FALLBACK: dict[str, Any] = {"response_model_exclude_unset": True, "openapi_extra": QUESTION}

router.post("/api/ai/chat-image-stream", summary="Stream an answer", **_STREAM)(chat_image_stream)
router.post("/api/ai/chat-image", summary="Answer in one reply", **_FALLBACK)(chat_image)
router.post("/api/v1/chat-image-stream", summary="Stream an answer (former path)", **_STREAM)(chat_image_stream)
router.post("/api/v1/chat-image", summary="Answer in one reply (former path)", **_FALLBACK)(chat_image)

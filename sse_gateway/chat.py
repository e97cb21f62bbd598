"""The two routes that answer a question: as a stream of events, and as one reply."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from studyai.v1.chat_pb2 import ChatImageRequest, CompleteChatImageRequest

from sse_gateway.dependencies import Parts, caller, deadline
from sse_gateway.disconnect import Client, while_connected
from sse_gateway.engine import CallOptions
from sse_gateway.events import AnswerEvents, answer_reply
from sse_gateway.live import LiveAnswer, event_stream
from sse_gateway.openapi import ERROR_RESPONSES, QUESTION, REPLY_RESPONSE, STREAM_RESPONSE
from sse_gateway.question import AskedQuestion, read_question
from sse_gateway.record import RequestRecord
from sse_gateway.schemas import AnswerReply

FALLBACK_ENDPOINT = "/api/ai/chat-image"


class _Route(APIRoute):
    """A route whose function makes the response of the request: FastAPI documents it, and has nothing to inject."""

    def get_route_handler(self) -> Any:
        """Returns what handles its requests; see `fastapi.routing.APIRoute`."""
        return self.endpoint


router = APIRouter(tags=["chat"], responses=ERROR_RESPONSES, route_class=_Route)


async def chat_image_stream(request: Request) -> Response:
    """Streams the answer while the model writes it."""
    parts, record = Parts.of(request), RequestRecord.of(request)
    record.fallback_endpoint = FALLBACK_ENDPOINT
    asked, options = await _asked(request)
    messages = parts.engine.stream(asked.hand_over(ChatImageRequest), options)
    return event_stream(
        LiveAnswer(messages, record, AnswerEvents(accumulate=asked.accumulate)), request, parts.settings
    )


async def chat_image(request: Request) -> Response:
    """Returns the whole answer at once: the fallback for clients that cannot read a stream."""
    asked, options = await _asked(request)
    async with while_connected(Client.of(request.scope)):
        answer = await Parts.of(request).engine.complete(asked.hand_over(CompleteChatImageRequest), options)
    RequestRecord.of(request).answer_id = answer.started.answer_id
    return JSONResponse(answer_reply(answer).model_dump(exclude_unset=True))


async def _asked(request: Request) -> tuple[AskedQuestion, CallOptions]:
    """Reads the question, and returns how the engine is to be asked."""
    asker, until = await caller(request), deadline(request)
    asked = await read_question(request, asker, until)
    return asked, CallOptions(RequestRecord.of(request).request_id, until, asked.accepted)


_STREAM: dict[str, Any] = {"response_class": Response, "responses": STREAM_RESPONSE, "openapi_extra": QUESTION}
_FALLBACK: dict[str, Any] = {
    "response_model": AnswerReply,
    "responses": REPLY_RESPONSE,
    "openapi_extra": QUESTION,
}

router.post("/api/ai/chat-image-stream", summary="Stream an answer", **_STREAM)(chat_image_stream)
router.post("/api/ai/chat-image", summary="Answer in one reply", **_FALLBACK)(chat_image)
router.post("/api/v1/chat-image-stream", summary="Stream an answer (former path)", **_STREAM)(chat_image_stream)
router.post("/api/v1/chat-image", summary="Answer in one reply (former path)", **_FALLBACK)(chat_image)

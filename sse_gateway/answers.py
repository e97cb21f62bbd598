"""The routes of an answer that was begun before: resume or replay it, fetch it, stop it."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator
from studyai.v1.chat_pb2 import CompleteChatImageResponse, ResumeAnswerRequest, StopAnswerRequest

from sse_gateway import metrics
from sse_gateway.auth import Caller
from sse_gateway.dependencies import Parts, caller, deadline
from sse_gateway.disconnect import Client, while_connected
from sse_gateway.engine import CallOptions
from sse_gateway.events import AnswerEvents, answer_reply, whole_answer
from sse_gateway.headers import digits
from sse_gateway.live import LiveAnswer, event_stream
from sse_gateway.openapi import ANSWER, ANSWER_RESPONSES, STOP_RESPONSES
from sse_gateway.record import RequestRecord
from sse_gateway.schemas import AnswerInProgress, Id

router = APIRouter(prefix="/api/ai/answers", tags=["answers"])

_PATIENCE_SECONDS = 1.0
"""How long a request for the finished answer waits for it before it is told to come back."""
_COME_BACK_SECONDS = 1

Asker = Annotated[Caller, Depends(caller)]
StudentId = Annotated[Id, Query(description="Who asked: an answer of a named student is found only with the same one.")]
LastEventId = Annotated[
    int | None,
    BeforeValidator(digits),
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=2**32 - 1,
        description="The `id` of the last event seen: the stream goes on after it. A browser's `EventSource` sends it.",
    ),
]
Accumulate = Annotated[bool, Query(description="`false` leaves `content` out of `content` events.")]


@router.get(
    "/{answer_id}", summary="Resume, replay or fetch an answer", responses=ANSWER_RESPONSES, openapi_extra=ANSWER
)
async def get_answer(
    answer_id: str,
    asker: Asker,
    request: Request,
    student_id: StudentId = "",
    accumulate: Accumulate = True,
    last_event_id: LastEventId = None,
) -> Response:
    """Streams the rest of an answer, or returns all of it.

    With `Accept: text/event-stream`, streams the answer after `Last-Event-ID`, or from its start without one; 204 when
    there is nothing after it. Otherwise returns the finished answer in one reply, as the fallback does, or 202 while it
    is being written.
    """
    parts, record = Parts.of(request), RequestRecord.of(request)
    asked = ResumeAnswerRequest(answer_id=answer_id, student_id=asker.student(student_id))
    options = CallOptions(record.request_id, deadline(request))
    if "text/event-stream" not in request.headers.get("accept", ""):
        async with while_connected(Client.of(request.scope)):
            reply = await _whole(asked, parts, options)
        record.answer_id = answer_id
        return reply
    if last_event_id:
        asked.boundary_sequence = last_event_id
        options = replace(options, accepted=metrics.RESUMES.inc)
    messages = parts.engine.resume(asked, options)
    events = AnswerEvents(accumulate=accumulate, after=last_event_id)
    return event_stream(LiveAnswer(messages, record, events), request, parts.settings)


@router.delete("/{answer_id}", summary="Stop an answer", status_code=204, responses=STOP_RESPONSES)
async def delete_answer(answer_id: str, asker: Asker, request: Request, student_id: StudentId = "") -> None:
    """Stops an answer, for all who read it.

    Their streams `end` with `finish_reason: "stopped"` and the text so far. Changes nothing when it has ended already.
    """
    asked = StopAnswerRequest(answer_id=answer_id, student_id=asker.student(student_id))
    record = RequestRecord.of(request)
    await Parts.of(request).engine.stop(asked, CallOptions(record.request_id))
    record.answer_id = answer_id


async def _whole(asked: ResumeAnswerRequest, parts: Parts, options: CallOptions) -> JSONResponse:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            answer = await _read(asked, parts, options)
    except TimeoutError:
        body = AnswerInProgress(answer_id=asked.answer_id, status="in_progress")
        return JSONResponse(body.model_dump(), 202, {"Retry-After": str(_COME_BACK_SECONDS)})
    return JSONResponse(answer_reply(answer).model_dump(exclude_unset=True))


async def _read(asked: ResumeAnswerRequest, parts: Parts, options: CallOptions) -> CompleteChatImageResponse:
    async with aclosing(parts.engine.resume(asked, options)) as messages:
        return whole_answer([message async for message in messages])

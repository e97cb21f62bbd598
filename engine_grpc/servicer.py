"""ChatService: messages in, the tutor asked, messages out. No policy here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from studyai.v1 import chat_pb2, chat_pb2_grpc

from engine_grpc.model import FinishReason
from engine_grpc.question import ANONYMOUS, Question, checked_id, checked_key

if TYPE_CHECKING:
    from engine_grpc.answers import Answer, Finished, Started
    from engine_grpc.grpc_types import ServicerContext
    from engine_grpc.interceptors import Arrival
    from engine_grpc.tutor import Tutor

Response = TypeVar("Response", chat_pb2.ChatImageResponse, chat_pb2.ResumeAnswerResponse)

_MAY_JOIN = "x-may-join"
"""Metadata of a question whose key may name an answer: an engine that is full takes it in to see."""
_FINISH_REASONS = {
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.STOPPED: chat_pb2.FINISH_REASON_STOPPED,
}


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """The RPCs of protos/studyai/v1/chat.proto.

    Each is given its request's arrival in place of the request, see `CallBoundary`: it looks first whether there is
    room for an answer. The streams write to the context instead of yielding: a cancelled generator may be closed
    late, a coroutine is not.
    """

    def __init__(self, tutor: Tutor) -> None:
        self._tutor = tutor

    async def ChatImage(  # type: ignore[override]  # is given an arrival, and writes
        self, arrival: Arrival, context: ServicerContext
    ) -> None:
        """Streams the answer: a reader that passes on what it reads."""
        answer = await self._answer(arrival, context)
        await _stream(answer, arrival, context, chat_pb2.ChatImageResponse)

    async def CompleteChatImage(  # type: ignore[override]  # is given an arrival
        self, arrival: Arrival, context: ServicerContext
    ) -> chat_pb2.CompleteChatImageResponse:
        """Returns the whole answer: a reader that waits for the ending."""
        answer = await self._answer(arrival, context)
        with answer.reader() as reader:
            await arrival.accept()
            text = "".join([piece.text async for piece in reader])
            _, finished = reader.finished
        return chat_pb2.CompleteChatImageResponse(
            started=_started(answer.started), text=text, finished=_finished(finished)
        )

    async def ResumeAnswer(  # type: ignore[override]  # is given an arrival, and writes
        self, arrival: Arrival, context: ServicerContext
    ) -> None:
        """Streams the rest of an answer: a reader that starts later."""
        request: chat_pb2.ResumeAnswerRequest = await arrival.request()
        student_id = checked_id("student_id", request.student_id) or ANONYMOUS
        after, boundary = request.after_sequence, request.boundary_sequence
        answer = await self._tutor.resume(request.answer_id, student_id, after, boundary)
        await _stream(answer, arrival, context, chat_pb2.ResumeAnswerResponse, after, boundary)

    async def StopAnswer(  # type: ignore[override]  # is given an arrival
        self, arrival: Arrival, context: ServicerContext
    ) -> chat_pb2.StopAnswerResponse:
        """Stops an answer for all of its readers."""
        request: chat_pb2.StopAnswerRequest = await arrival.request()
        await self._tutor.stop(request.answer_id, checked_id("student_id", request.student_id) or ANONYMOUS)
        await arrival.accept()
        return chat_pb2.StopAnswerResponse()

    async def _answer(self, arrival: Arrival, context: ServicerContext) -> Answer:
        """Returns the answer to a question, of which nothing stays here: an answer takes long, and needs no picture."""
        with self._tutor.room(may_join=_MAY_JOIN in dict(context.invocation_metadata() or ())):
            request = await arrival.request()
            return await self._tutor.ask(_question(request.question), checked_key(request.request_id))


async def _stream(
    answer: Answer,
    arrival: Arrival,
    context: ServicerContext,
    response: type[Response],
    after: int = 0,
    boundary: int = 0,
) -> None:
    """Writes an answer's events behind the one numbered `after`; from the start, if that is 0."""
    with answer.reader(after, boundary) as reader:
        await arrival.accept()
        if not after:
            await context.write(response(started=_started(await answer.begun())))
        async for piece in reader:
            await context.write(response(sequence=piece.sequence, text_delta=chat_pb2.TextDelta(text=piece.text)))
        sequence, finished = reader.finished
        await context.write(response(sequence=sequence, finished=_finished(finished)))


def _question(question: chat_pb2.ImageQuestion) -> Question:
    return Question.checked(
        image=question.image,
        prompt=question.prompt,
        subject=question.subject,
        session_id=question.session_id,
        student_id=question.student_id,
    )


def _started(started: Started) -> chat_pb2.AnswerStarted:
    time = Timestamp()
    time.FromDatetime(started.time)
    return chat_pb2.AnswerStarted(
        answer_id=started.answer_id, session_id=started.session_id, model=started.model, start_time=time
    )


def _finished(finished: Finished) -> chat_pb2.AnswerFinished:
    elapsed = Duration()
    elapsed.FromMilliseconds(round(finished.elapsed * 1000))
    usage = finished.usage
    return chat_pb2.AnswerFinished(
        finish_reason=_FINISH_REASONS[finished.finish_reason],
        usage=chat_pb2.TokenUsage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            estimated=usage.estimated,
        ),
        elapsed=elapsed,
    )

"""StudyAI's gRPC side without the calls: steps to messages and back, statuses to exceptions.

A failure is the call's status with the details of google/rpc/error_details.proto: `ErrorInfo` (domain `studyai`) has
the code, `RetryInfo` when to try again. A status without them is gRPC's own and speaks of the connection.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from studyai.v1 import chat_pb2 as pb

from studyai_client.errors import (
    ConnectionLostError,
    ProtocolError,
    StreamingUnavailableError,
    StudyAIError,
    UnauthenticatedError,
    service_error,
)
from studyai_client.events import Answer, Delta, Finished, FinishReason, Started, Usage
from studyai_client.options import too_late
from studyai_client.progress import Ask, Complete, Numbered, Resume
from studyai_client.unreached import over_grpc

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from studyai_client.options import Deadline, Tls
    from studyai_client.question import Question

Detail = TypeVar("Detail", bound=Message)

OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # As soon as an engine that was restarted is there again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
)
"""Of every channel. The keepalive finds connections that are dead without a word; the engine allows it."""
_DOMAIN = "studyai"
_REQUEST_ID = "x-request-id"
_FINISH_REASONS: dict[int, FinishReason] = {
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_CONTENT_FILTER: "content_filter",
    pb.FINISH_REASON_STOPPED: "stopped",
}
"""Anything else is to be taken for a natural end, as the contract has it."""


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Returns what a channel with TLS is made with.

    Raises:
        OSError: A file cannot be read.
    """
    return grpc.ssl_channel_credentials(_file(tls.ca_file), _file(tls.key_file), _file(tls.cert_file))


def options(tls: Tls) -> list[tuple[str, Any]]:
    """Returns a channel's options."""
    named = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return [*OPTIONS, *named]


class CallArguments:
    """What calls are made with beside their messages.

    Args:
        token: The service token.
    """

    def __init__(self, token: str | None) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def given(self, deadline: Deadline, *, again: bool = False) -> dict[str, Any]:
        """Returns a call's; `again` has an engine that is full look whether it has the answer before it refuses.

        Raises:
            DeadlineExceededError: It is too late.
        """
        joins = (("x-may-join", "1"),) if again else ()
        return {"timeout": deadline.remaining(), "metadata": (*self._metadata, *joins)}


def asked(step: Ask) -> pb.ChatImageRequest:
    """Returns the message that asks for a stream."""
    return pb.ChatImageRequest(question=_question(step.question), request_id=step.question.key)


def asked_whole(step: Complete) -> pb.CompleteChatImageRequest:
    """Returns the message that asks for the whole answer."""
    return pb.CompleteChatImageRequest(question=_question(step.question), request_id=step.question.key)


def resumed(step: Resume) -> pb.ResumeAnswerRequest:
    """Returns the message that goes on with an answer."""
    return pb.ResumeAnswerRequest(answer_id=step.answer_id, after_sequence=step.after or 0, student_id=step.student_id)


def stopped(answer_id: str, student_id: str) -> pb.StopAnswerRequest:
    """Returns the message that stops an answer."""
    return pb.StopAnswerRequest(answer_id=answer_id, student_id=student_id)


def event_of(message: pb.ChatImageResponse | pb.ResumeAnswerResponse) -> Numbered | None:
    """Returns an event; None for those that this version does not know. `Finished` has no text yet."""
    match message.WhichOneof("event"):
        case "started":
            return Numbered(message.sequence, _started(message.started))
        case "text_delta":
            return Numbered(message.sequence, Delta(text=message.text_delta.text))
        case "finished":
            return Numbered(message.sequence, _finished(message.finished, ""))
    return None


def answer_of(message: pb.CompleteChatImageResponse) -> Answer:
    """Returns the whole answer."""
    begun, ended = _started(message.started), _finished(message.finished, message.text)
    return Answer(
        answer_id=begun.answer_id,
        model=begun.model,
        session_id=begun.session_id,
        started_at=begun.started_at,
        text=ended.text,
        finish_reason=ended.finish_reason,
        usage=ended.usage,
        elapsed=ended.elapsed,
    )


@contextmanager
def told_as_ours(where: str, begun: Callable[[], bool], request_id: Callable[[], str | None]) -> Iterator[None]:
    """Raises a call's failures as exceptions of this package.

    Args:
        where: What the channel connects to.
        begun: Tells whether anything had come.
        request_id: Returns the call's name in the engine's logs, if it has one.

    Raises:
        StudyAIError: The call failed.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise _failure(cast("grpc.Call", error), where, begun=begun(), request_id=request_id()) from error


def request_id_in(metadata: Any) -> str | None:
    """Returns the call's name in the engine's logs out of its initial metadata."""
    return next((str(value) for name, value in metadata or () if name == _REQUEST_ID), None)


def _failure(call: grpc.Call, where: str, *, begun: bool, request_id: str | None) -> StudyAIError:
    details = _details(call)
    info, delay = _detail(details, ErrorInfo()), _detail(details, RetryInfo())
    message = call.details() or ""
    if info is None or info.domain != _DOMAIN:
        return _untold(call.code(), message, where, begun=begun)
    return service_error(
        info.reason,
        message,
        retryable=delay is not None,
        retry_after=delay.retry_delay.ToMilliseconds() / 1000 if delay else None,
        request_id=request_id,
    )


def _untold(code: grpc.StatusCode, message: str, where: str, *, begun: bool) -> StudyAIError:
    """Returns what a status means that the engine did not send."""
    match code:
        case grpc.StatusCode.UNAVAILABLE if not begun:
            return over_grpc(where, message)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.INTERNAL:
            return ConnectionLostError("The connection to the engine broke.", retryable=True)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return too_late()
        case grpc.StatusCode.UNAUTHENTICATED:
            return UnauthenticatedError("A valid service token is required.")
        case grpc.StatusCode.UNIMPLEMENTED:
            return StreamingUnavailableError("There is no ChatService at this address.")
    return ProtocolError(f"{code.name}: {message}")


def _details(call: grpc.Call) -> list[Any]:
    with suppress(ValueError, DecodeError):  # not what they claim to be
        if status := rpc_status.from_call(call):
            return list(status.details)
    return []


def _detail(details: list[Any], empty: Detail) -> Detail | None:
    for packed in details:
        with suppress(DecodeError):  # not what it claims to be
            if packed.Unpack(empty):
                return empty
    return None


def _question(question: Question) -> pb.ImageQuestion:
    return pb.ImageQuestion(
        image=question.image,
        prompt=question.prompt,
        subject=question.subject,
        session_id=question.session_id,
        student_id=question.student_id,
    )


def _started(message: pb.AnswerStarted) -> Started:
    return Started(
        answer_id=message.answer_id,
        model=message.model,
        session_id=message.session_id,
        started_at=message.start_time.ToDatetime(tzinfo=UTC),
    )


def _finished(message: pb.AnswerFinished, text: str) -> Finished:
    usage = message.usage
    return Finished(
        text=text,
        finish_reason=_FINISH_REASONS.get(message.finish_reason, "stop"),
        usage=Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            estimated=usage.estimated,
        ),
        elapsed=message.elapsed.ToTimedelta(),
    )


def _file(path: str | os.PathLike[str] | None) -> bytes | None:
    return Path(path).read_bytes() if path else None

"""From the engine's messages to the documented events, as the bytes that go out.

The text is kept as one growing run of escaped ASCII: each delta is escaped once, and an event is cut out of what is
there by joining bytes. What the client has not seen yet is everything past one mark, so that a reader that lags gets
all it has missed as one event.
"""

from __future__ import annotations

from datetime import UTC
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, assert_never

from studyai.v1.chat_pb2 import (
    ChatImageResponse,
    CompleteChatImageResponse,
    FinishReason,
    ResumeAnswerResponse,
)

from sse_gateway.schemas import AnswerReply, StartEvent, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel
    from studyai.v1.chat_pb2 import AnswerFinished, AnswerStarted, TokenUsage

    from sse_gateway.schemas import ErrorEvent, FinishReasonName

_FINISH_REASONS: dict[int, FinishReasonName] = {
    FinishReason.FINISH_REASON_STOP: "stop",
    FinishReason.FINISH_REASON_LENGTH: "length",
    FinishReason.FINISH_REASON_CONTENT_FILTER: "content_filter",
    FinishReason.FINISH_REASON_STOPPED: "stopped",
}
"""Any other is a newer engine's: "stop", as chat.proto says."""


AnswerMessage = ChatImageResponse | ResumeAnswerResponse
"""One event of an answer: both types have the same fields."""


class EventOrderError(Exception):
    """The engine broke the order of events in chat.proto."""


class AnswerEvents:
    """What has become of one answer so far, and how much of that its client has seen."""

    __slots__ = (
        "_accumulate",
        "_after",
        "_content",
        "_failed",
        "_finished",
        "_last",
        "_seen",
        "_start",
        "_text_sequence",
        "answer_id",
        "ended",
    )

    def __init__(self, *, accumulate: bool, after: int | None = None) -> None:
        """Starts with nothing.

        Args:
            accumulate: Whether `content` events hold all of the text.
            after: The number of the last event that the client has seen already; None, if it has seen none.
        """
        self._accumulate = accumulate
        self._after = -1 if after is None else after
        self._last = -1
        self._content = bytearray()
        self._text_sequence = 0
        self._seen = 0
        self._start = b""
        self._finished: AnswerMessage | None = None
        self._failed = b""
        self.answer_id: str | None = None
        """None until the first event was folded."""
        self.ended = False
        """Whether the last event was handed out."""

    @property
    def complete(self) -> bool:
        """Whether the last event was folded."""
        return self._finished is not None or bool(self._failed)

    def fold(self, message: AnswerMessage) -> None:
        """Takes the engine's next message in.

        Raises:
            EventOrderError: It must not come here.
        """
        event = message.WhichOneof("event")
        if event is None:  # a newer engine's event, see chat.proto
            return
        due = (event == "started") is (self.answer_id is None)
        if self.complete or not due:
            raise EventOrderError
        self._last = message.sequence
        match event:
            case "started":
                if message.sequence > self._after:
                    self._start = b"id: %d\ndata: %b\n\n" % (message.sequence, _json(_start_event(message.started)))
                self.answer_id = message.started.answer_id
            case "text_delta":
                self._content += encode_basestring_ascii(message.text_delta.text)[1:-1].encode("ascii")
                self._text_sequence = message.sequence
                if message.sequence <= self._after:
                    self._seen = len(self._content)
            case "finished":
                self._finished = message
            case _:
                assert_never(event)

    def check_complete(self) -> None:
        """To be called when the engine has no more to say.

        Raises:
            EventOrderError: The last event has not been among it.
        """
        if not self.complete:
            raise EventOrderError

    @property
    def caught_up(self) -> bool:
        """Whether all that the client had seen before was folded."""
        return self.answer_id is not None and self._last >= self._after

    @property
    def nothing_new(self) -> bool:
        """Whether the answer is complete, and the client had seen its last event before."""
        return self._finished is not None and self._last <= self._after

    @property
    def has_text(self) -> bool:
        """Whether any text was folded."""
        return bool(self._content)

    def fail(self, event: ErrorEvent) -> None:
        """Makes this the last event of an answer that is not complete. Text not seen yet goes out before it."""
        self._failed = b"data: %b\n\n" % _json(event)

    def take(self) -> bytes:
        """Returns everything that the client has not seen, as whole events; nothing if there is nothing new."""
        frames = self._start
        self._start = b""
        if len(self._content) > self._seen:
            frames += self._content_frame()
            self._seen = len(self._content)
        if self._finished:
            frames += self._end_frame(self._finished.sequence, self._finished.finished)
        frames += self._failed
        self.ended = self.complete
        return frames

    def _content_frame(self) -> bytes:
        delta = self._content[self._seen :]
        head = b'id: %d\ndata: {"type":"content",' % self._text_sequence
        if self._accumulate:
            return b"".join((head, b'"content":"', self._content, b'","delta":"', delta, b'"}\n\n'))
        return b"".join((head, b'"delta":"', delta, b'"}\n\n'))

    def _end_frame(self, sequence: int, finished: AnswerFinished) -> bytes:
        head = b'id: %d\ndata: {"type":"end","tokens":%d,"finish_reason":"%b","processing_time_ms":%d,"content":"' % (
            sequence,
            finished.usage.total_tokens,
            _finish_reason(finished).encode("ascii"),
            finished.elapsed.ToMilliseconds(),
        )
        return b"".join((head, self._content, b'","usage":', _json(_usage(finished.usage)), b"}\n\n"))


def whole_answer(messages: Iterable[AnswerMessage]) -> CompleteChatImageResponse:
    """Returns an answer's messages, from its first to its last, as one.

    Raises:
        EventOrderError: They are not a whole answer.
    """
    known = [message for message in messages if message.WhichOneof("event")]
    events = [message.WhichOneof("event") for message in known]
    if events != ["started", *["text_delta"] * (len(events) - 2), "finished"]:
        raise EventOrderError
    text = "".join(message.text_delta.text for message in known)
    return CompleteChatImageResponse(started=known[0].started, text=text, finished=known[-1].finished)


def answer_reply(answer: CompleteChatImageResponse) -> AnswerReply:
    """Returns a whole answer as the fallback's reply."""
    return AnswerReply(
        success=True,
        response=answer.text,
        processing_time_ms=answer.finished.elapsed.ToMilliseconds(),
        tokens_used=answer.finished.usage.total_tokens,
        image_analyzed=True,
        error=None,
        model=answer.started.model,
        finish_reason=_finish_reason(answer.finished),
        answer_id=answer.started.answer_id,
        usage=_usage(answer.finished.usage),
    )


def _start_event(started: AnswerStarted) -> StartEvent:
    moment = started.start_time.ToDatetime(UTC).isoformat(timespec="milliseconds")
    return StartEvent(
        type="start",
        timestamp=moment.replace("+00:00", "Z"),
        model=started.model,
        answer_id=started.answer_id,
        session_id=started.session_id,
    )


def _usage(usage: TokenUsage) -> Usage:
    estimated = {"estimated": True} if usage.estimated else {}
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        **estimated,
    )


def _finish_reason(finished: AnswerFinished) -> FinishReasonName:
    return _FINISH_REASONS.get(finished.finish_reason, "stop")


def _json(model: BaseModel) -> bytes:
    return model.model_dump_json(exclude_unset=True, ensure_ascii=True).encode("ascii")

"""How to come to the whole of an answer, whatever breaks: without any I/O, so that all four clients go by these rules.

1. Until `Started` has come, the question is sent, and sent again under the same key: it joins the answer there may be.
2. After that the answer is resumed after what was seen. Where it is not kept any more, because its engine is gone, the
   question is sent again: another answer begins, with another `Started`.
3. Where streams do not come through, the fallback is asked under the same key, which joins the same answer; what it
   tells beyond what was seen comes as one more delta.

So the model is asked once for each answer that is kept. A failure of the model itself is told and not retried: the
next question would be another answer, and it is the caller's to order it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from studyai_client.errors import (
    AnswerNotFoundError,
    AuthUnavailableError,
    ConnectionFailedError,
    ConnectionLostError,
    DrainingError,
    EngineUnavailableError,
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    StreamingUnavailableError,
    StudyAIError,
)
from studyai_client.events import Answer, Delta, Event, Finished, Started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studyai_client.options import Backoff, Deadline
    from studyai_client.question import Question

_PASSING = (
    ConnectionFailedError,
    ConnectionLostError,
    OverloadedError,
    DrainingError,
    EngineUnavailableError,
    RateLimitedError,
    AuthUnavailableError,
)
"""Failures of the way to an answer, and not of the answer."""
_CUTS_BEFORE_FALLBACK = 3
"""Streams in a row that break without having brought anything: the way is open, but not for streams."""
_ASKED_AT_MOST = 3
"""Of a question whose answers engines forget: as the page does."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the question, and stream its answer."""

    question: Question
    again: bool
    """Whether there may be an answer to join."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Stream an answer from where it was left."""

    answer_id: str
    student_id: str
    after: int | None
    """The number of the last event seen; None for from the start."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Send the question, and take the answer in one reply."""

    question: Question
    again: bool


Step = Ask | Resume | Complete


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its number in the answer."""

    number: int
    event: Event


class Progress:
    """What is known of one answer.

    Args:
        origin: The question, or the answer to resume.
        backoff: How patient to be.
        deadline: When it is too late.
        streaming: Whether to stream; else the fallback is asked at once.
    """

    def __init__(
        self, origin: Question | Resume, backoff: Backoff, deadline: Deadline, *, streaming: bool = True
    ) -> None:
        self._origin = origin
        self._backoff = backoff
        self.deadline = deadline
        self._streaming = streaming
        self._failures = 0
        self._cuts = 0
        self._forgotten = 0
        self._asked = self._anew = False
        self._repeated = 0
        self._number: int | None = None
        self._texts: list[str] = []
        self.started: Started | None = None
        self.finished: Finished | None = None

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    @property
    def answer_id(self) -> str | None:
        """The answer's, once it is known."""
        if self.started:
            return self.started.answer_id
        return self._origin.answer_id if isinstance(self._origin, Resume) else None

    @property
    def answer(self) -> Answer:
        """The whole answer, once it is there."""
        if not self.started or not self.finished:
            raise ProtocolError("The answer is not whole.")
        begun, ended = self.started, self.finished
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

    def next_step(self) -> Step:
        """Returns what to do next."""
        again, self._asked = self._asked, True
        if isinstance(self._origin, Resume):
            return replace(self._origin, after=self._number)
        if not self._streaming:
            return Complete(self._origin, again)
        if self.started and not self._anew:
            return Resume(self.started.answer_id, self._origin.student_id, self._number)
        return Ask(self._origin, again)

    def take(self, numbered: Numbered) -> Event | None:
        """Notes an event; returns it as the caller should see it, or None where they have seen it before.

        Raises:
            ProtocolError: It does not fit to what came before.
        """
        event = numbered.event
        if isinstance(event, Started) and self._joins_again(event):
            self._number = numbered.number
            return None
        seen = self._number is not None and numbered.number <= self._number
        if not isinstance(event, Finished) and seen:
            return None
        # Not before: what is told again is no progress.
        self._failures = self._cuts = 0
        self._number = numbered.number
        match event:
            case Started():
                self.started = event
            case Delta():
                return self._unseen(event)
            case Finished():
                return self._finish(event)
        return event

    def take_whole(self, answer: Answer) -> Iterator[Event]:
        """Notes an answer that came in one reply; yields what the caller has not seen of it.

        Raises:
            ProtocolError: It does not fit to what came before.
        """
        self._forget_all_but(answer.answer_id)
        seen = self.text
        if not answer.text.startswith(seen):
            raise ProtocolError("The answer is not what it was before.")
        if not self.started:
            yield self._begin(answer)
        if rest := answer.text[len(seen) :]:
            self._texts.append(rest)
            yield Delta(text=rest)
        self.finished = Finished(
            text=answer.text, finish_reason=answer.finish_reason, usage=answer.usage, elapsed=answer.elapsed
        )
        yield self.finished

    def failed(self, error: StudyAIError) -> float:
        """Notes a failure; returns the seconds to wait before the next step.

        Raises:
            StudyAIError: The same, told what of the answer there is: nothing more is to be done.
        """
        self.tell(error)
        if self._asks_anew(error):
            return 0.0
        if self._falls_back(error):
            self._streaming, self._failures, self._cuts = False, 0, 0
            return 0.0
        self._failures += 1
        pause = max(self._backoff.delay(self._failures), error.retry_after or 0.0)
        if self._is_hopeless(error) or not isinstance(error, _PASSING) or not self.deadline.allows(pause):
            raise error
        return pause

    def _is_hopeless(self, error: StudyAIError) -> bool:
        # Once something has come from there, the name is right, and it is the network that is not.
        nowhere = isinstance(error, ConnectionFailedError) and not error.retryable and not self.started
        too_long = (error.retry_after or 0.0) > self._backoff.longest_delay
        return nowhere or too_long or self._failures > self._backoff.attempts

    def tell(self, error: StudyAIError) -> StudyAIError:
        """Tells a failure what of the answer there is; returns it."""
        error.partial_text, error.answer_id = self.text, self.answer_id
        return error

    def _asks_anew(self, error: StudyAIError) -> bool:
        if not isinstance(error, AnswerNotFoundError) or isinstance(self._origin, Resume):
            return False
        self._forgotten += 1
        self._anew = self._forgotten < _ASKED_AT_MOST
        return self._anew

    def _joins_again(self, started: Started) -> bool:
        """Whether a question that was asked anew has come to the answer that was begun: it is told from its start."""
        anew, same = self._anew, bool(self.started) and self.answer_id == started.answer_id
        self._forget_all_but(started.answer_id)
        self._repeated = len(self.text) if anew and same else self._repeated
        return anew and same

    def _unseen(self, delta: Delta) -> Delta | None:
        """Notes what of a delta the caller has not seen; where it is told again, it may be cut at other places."""
        text = delta.text[self._repeated :]
        self._repeated -= min(self._repeated, len(delta.text))
        if not text:
            return None
        self._texts.append(text)
        return Delta(text=text)

    def _forget_all_but(self, answer_id: str) -> None:
        """Begins again with another answer than the one that was begun."""
        self._anew = False
        if self.started and self.started.answer_id != answer_id:
            self.started, self._number, self._repeated = None, None, 0
            self._texts.clear()

    def _falls_back(self, error: StudyAIError) -> bool:
        if not self._streaming or isinstance(self._origin, Resume):
            return False
        self._cuts += isinstance(error, ConnectionLostError)
        return isinstance(error, StreamingUnavailableError) or self._cuts >= _CUTS_BEFORE_FALLBACK

    def _begin(self, answer: Answer) -> Started:
        named = self._origin.session_id if not isinstance(self._origin, Resume) else ""
        self.started = Started(
            answer_id=answer.answer_id,
            model=answer.model,
            session_id=answer.session_id or named or None,
            started_at=answer.started_at,
        )
        return self.started

    def _finish(self, event: Finished) -> Finished:
        text = self.text
        if event.text not in ("", text):
            raise ProtocolError("The answer's pieces do not add up to the answer.")
        self.finished = replace(event, text=text)
        return self.finished


def ended_early() -> ConnectionLostError:
    """Returns the failure of a stream that ends as if it were whole, and is not."""
    return ConnectionLostError("The stream ended before the answer.", retryable=True)

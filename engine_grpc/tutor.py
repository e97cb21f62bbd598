"""The product's rules: check a question, start its answer, and let the model write it within its deadlines.

The writer is the only one that ends an answer, and it does so in every case: finished, failed, too late, cancelled.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from engine_grpc import image, prompt, usage
from engine_grpc.answers import Answer, Finished, Started
from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.model import Done, FinishReason
from engine_grpc.sessions import Context, Turn

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine_grpc.model import ChatModel, Prompt
    from engine_grpc.question import Question
    from engine_grpc.registry import Answers
    from engine_grpc.sessions import Sessions

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long the model may take, in seconds."""

    first_token: float
    """From asking to the first text, retries included."""
    stall: float
    """From one text to the next."""
    answer: float
    """From asking to the end."""


class Tutor:
    """Answers questions by asking a model."""

    def __init__(self, model: ChatModel, answers: Answers, sessions: Sessions, deadlines: Deadlines) -> None:
        self._model = model
        self._answers = answers
        self._sessions = sessions
        self._deadlines = deadlines
        self._remembering: set[asyncio.Future[None]] = set()

    async def ask(self, question: Question, key: str = "") -> Answer:
        """Returns the answer to a question: the one that its key names, or a new one.

        Raises:
            EngineError: INVALID_REQUEST, IMAGE_UNREADABLE, IDEMPOTENCY_KEY_REUSED or OVERLOADED.
        """
        fingerprint = question.fingerprint
        joined = self._answers.join(question.student_id, key, fingerprint)
        if joined:
            return joined
        asked = await self._compose(question)
        started = Started(
            student_id=question.student_id,
            session_id=question.session_id or secrets.token_hex(16),
            model=self._model.name,
            key=key,
        )
        # Somebody may have come with the same key meanwhile. From here to the start nothing waits.
        return self._answers.join(question.student_id, key, fingerprint) or self._start(question, started, asked)

    def resume(self, answer_id: str, student_id: str, after: int) -> Answer:
        """Returns a student's answer, to be read behind the event numbered `after`.

        Raises:
            EngineError: ANSWER_NOT_FOUND, or INVALID_REQUEST when there is no such event yet.
        """
        answer = self._answers.find(answer_id, student_id)
        if after > len(answer.deltas) + (answer.ending is not None):
            raise EngineError(Reason.INVALID_REQUEST, "The answer has no such event.", field="after_sequence")
        return answer

    def stop(self, answer_id: str, student_id: str) -> None:
        """Ends a student's answer with the text it has; changes nothing when it has ended.

        Raises:
            EngineError: ANSWER_NOT_FOUND.
        """
        answer = self._answers.find(answer_id, student_id)
        if answer.ending is None:
            answer.stop()
            self._answers.cancel(answer)

    async def _compose(self, question: Question) -> Prompt:
        """What the model is to be asked, with the context of the session."""
        context = Context()
        if question.session_id:
            context = await self._sessions.load(question.student_id, question.session_id)
        picture = _inspected(question.image) if question.image else context.picture
        if picture is None:
            raise EngineError(Reason.INVALID_REQUEST, "A picture is required.", field="question.image")
        return prompt.compose(question, picture, context.turns)

    def _start(self, question: Question, started: Started, asked: Prompt) -> Answer:
        answer = self._answers.start(started, lambda answer: self._write(answer, asked), question.fingerprint)
        answer.estimate = lambda text: usage.estimate(asked, text)
        if question.image:
            self._remember(self._sessions.remember_picture(started.student_id, started.session_id, asked.picture))
        answer.on_read = lambda: self._remember_turn(question, answer)
        return answer

    def _remember_turn(self, question: Question, answer: Answer) -> None:
        """Remembers a question with the answer that its student has read to the end."""
        answer.on_read = lambda: None
        if isinstance(answer.ending, Finished) and answer.deltas:
            turn, started = Turn(question.prompt, answer.text), answer.started
            self._remember(self._sessions.remember_turn(started.student_id, started.session_id, turn))

    def _remember(self, remembering: Coroutine[None, None, None]) -> None:
        # Beside the stream: what keeps sessions may be slow, and must not make the stream so.
        task = asyncio.ensure_future(remembering)
        self._remembering.add(task)
        task.add_done_callback(self._remembering.discard)

    async def _write(self, answer: Answer, asked: Prompt) -> None:
        """Lets the model write the answer, and ends it whatever happens; cancelled, there is nobody to end it for."""
        try:
            await self._read_model(answer, asked)
        except EngineError as error:
            answer.end(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the readers must be told
            log_unexpected(log, error)
            answer.end(EngineError(Reason.INTERNAL))
        finally:
            _log_end(answer)

    async def _read_model(self, answer: Answer, asked: Prompt) -> None:
        """Appends the model's text to the answer until it is done."""
        loop = asyncio.get_running_loop()
        last = loop.time() + self._deadlines.answer
        try:
            async with (
                asyncio.timeout_at(min(last, loop.time() + self._deadlines.first_token)) as deadline,
                aclosing(self._model.stream(asked)) as events,
            ):
                async for event in events:
                    if isinstance(event, Done):
                        tokens = event.usage or answer.estimate(answer.text)
                        answer.end(Finished(event.finish_reason, tokens, answer.elapsed))
                    else:
                        answer.append(event.text)
                    deadline.reschedule(min(last, loop.time() + self._deadlines.stall))
        except TimeoutError:
            late = loop.time() >= last
            raise EngineError(Reason.DEADLINE_EXCEEDED if late else Reason.UPSTREAM_TIMEOUT) from None


def _inspected(data: bytes) -> image.Picture:
    try:
        return image.inspect(data)
    except image.ImageError as error:
        raise EngineError(Reason.IMAGE_UNREADABLE, str(error), field="question.image") from None


def _log_end(answer: Answer) -> None:
    log.info(
        "answer ended",
        answer_id=answer.started.answer_id,
        outcome=_outcome(answer.ending),
        deltas=len(answer.deltas),
        elapsed_ms=round(answer.elapsed * 1000),
        **_figures(answer.ending),
    )


def _outcome(ending: Finished | EngineError | None) -> str:
    """One word for how an answer ended; without an ending, its last reader left."""
    if ending is None:
        return "client_gone"
    if isinstance(ending, Finished):
        return "completed" if ending.finish_reason is FinishReason.STOP else ending.finish_reason.value
    named = {
        Reason.DEADLINE_EXCEEDED: "deadline",
        Reason.DRAINING: "drained",
        Reason.INTERNAL: "internal_error",
    }
    return named.get(ending.reason, "upstream_error")


def _figures(ending: Finished | EngineError | None) -> dict[str, object]:
    if isinstance(ending, Finished):
        return {"total_tokens": ending.usage.total_tokens, "estimated": ending.usage.estimated}
    return {"code": str(ending.reason)} if ending else {}

"""The product's rules: check a question, start its answer, and let the model write it within its deadlines.

The writer is the only one that ends an answer, and it does so in every case: finished, failed, too late, cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog

from engine_grpc import image, metrics, prompt, usage
from engine_grpc.answers import Answer, Finished, Started, nothing
from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.model import Begun, Delta, Done
from engine_grpc.outcome import log_end
from engine_grpc.sessions import Context, Turn
from engine_grpc.shared import Unshared

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Coroutine
    from contextlib import AbstractContextManager

    from engine_grpc.model import ChatModel, ModelEvent, Prompt
    from engine_grpc.question import Question
    from engine_grpc.registry import Answers
    from engine_grpc.sessions import Sessions
    from engine_grpc.shared import RemoteAnswer, SharedAnswers

log = structlog.get_logger(__name__)

_CATCH_UP_SECONDS = 2
_LAST_TURNS_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long the model may take, in seconds."""

    first_token: float
    """From asking to the first text, all tries included."""
    stall: float
    """From one text to the next."""
    answer: float
    """From asking to the end."""


class Tutor:
    """Answers questions by asking a model.

    Args:
        model: Writes the answers.
        answers: Those of this engine.
        sessions: What was asked before.
        deadlines: The model's.
        shared: The answers of all engines.
    """

    def __init__(
        self,
        model: ChatModel,
        answers: Answers,
        sessions: Sessions,
        deadlines: Deadlines,
        shared: SharedAnswers | None = None,
    ) -> None:
        self._model = model
        self._answers = answers
        self._sessions = sessions
        self._deadlines = deadlines
        self._shared = shared or Unshared()
        self._remembering: set[asyncio.Future[None]] = set()
        self._asking: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def room(self, *, may_join: bool) -> AbstractContextManager[None]:
        """Keeps room for an answer while its question is on its way; see `Answers.room`."""
        return self._answers.room(may_join=may_join)

    async def ask(self, question: Question, key: str = "") -> Answer:
        """Returns the answer to a question: the one that its key names, or a new one.

        Raises:
            EngineError: INVALID_REQUEST, IMAGE_UNREADABLE, IDEMPOTENCY_KEY_REUSED, OVERLOADED or ENGINE_UNAVAILABLE.
        """
        if not key:
            return self._start(question, self._started(question), await self._compose(question), b"")
        # One after the other: the first starts the answer, and the others find it.
        async with self._asking.setdefault((question.student_id, key), asyncio.Lock()):
            fingerprint = question.fingerprint()
            joined = self._answers.join(question.student_id, key, fingerprint)
            if joined:
                metrics.JOINS.inc()
            return joined or await self._ask_first(question, key, fingerprint)

    async def resume(self, answer_id: str, student_id: str, after: int) -> Answer:
        """Returns a student's answer, to be read behind the event numbered `after`.

        Raises:
            EngineError: ANSWER_NOT_FOUND, ENGINE_UNAVAILABLE, or INVALID_REQUEST when there is no such event yet.
        """
        answer = await self._find(answer_id, student_id)
        remote = self._answers.remote(answer)
        if remote:
            await _caught_up(answer, remote, after)
        if after > len(answer.deltas) + (answer.ending is not None):
            raise EngineError(Reason.INVALID_REQUEST, "The answer has no such event.", field="after_sequence")
        metrics.RESUMES.inc()
        return answer

    async def stop(self, answer_id: str, student_id: str) -> None:
        """Ends a student's answer with the text it has; changes nothing when it has ended.

        Raises:
            EngineError: ANSWER_NOT_FOUND or ENGINE_UNAVAILABLE.
        """
        answer = await self._find(answer_id, student_id)
        remote = self._answers.remote(answer)
        if not remote:
            self._stop(answer)
            return
        with answer.reader():
            await remote.stop(answer)

    async def aclose(self) -> None:
        """Waits until what is being remembered is, for a moment at most."""
        if self._remembering:
            await asyncio.wait(self._remembering, timeout=_LAST_TURNS_SECONDS)

    async def _ask_first(self, question: Question, key: str, fingerprint: bytes) -> Answer:
        """Starts the answer that a key names, or follows it where another engine has."""
        asked = await self._compose(question)
        started = self._started(question, key)
        remote = await self._shared.claim(started, fingerprint)
        if remote:
            metrics.JOINS.inc()
            return self._follow(remote)
        try:
            return self._start(question, started, asked, fingerprint)
        except EngineError:
            self._shared.release(started)
            raise

    async def _find(self, answer_id: str, student_id: str) -> Answer:
        if self._answers.knows(answer_id):
            return self._answers.find(answer_id, student_id)
        remote = await self._shared.find(answer_id)
        if remote is None or remote.started.student_id != student_id:
            raise EngineError(Reason.ANSWER_NOT_FOUND)
        return self._follow(remote)

    def _follow(self, remote: RemoteAnswer) -> Answer:
        answer = self._answers.follow(remote, lambda answer: _ended(answer, remote.follow(answer)))
        if self._answers.remote(answer):
            answer.on_read = self._remember_turn
        return answer

    def _stop(self, answer: Answer) -> None:
        if answer.ending is None:
            answer.stop()
            self._answers.cancel(answer)

    def _started(self, question: Question, key: str = "") -> Started:
        return Started(
            student_id=question.student_id,
            session_id=question.session_id or secrets.token_hex(16),
            model=self._model.name,
            settled=self._model.settled,
            question=question.prompt,
            key=key,
        )

    async def _compose(self, question: Question) -> Prompt:
        """What the model is to be asked, with the context of the session."""
        picture = _inspected(question.image) if question.image else None
        context = Context()
        if question.session_id:
            context = await self._sessions.load(question.student_id, question.session_id, with_picture=picture is None)
        picture = picture or context.picture
        if picture is None:
            raise EngineError(Reason.INVALID_REQUEST, "A picture is required.", field="question.image")
        return prompt.compose(question, picture, context.turns)

    def _start(self, question: Question, started: Started, asked: Prompt, fingerprint: bytes) -> Answer:
        # The model alone holds the prompt, and with it the picture, and lets go of it when it has been asked.
        events = self._model.stream(asked, min(self._deadlines.first_token, self._deadlines.answer))
        answer = self._answers.start(started, lambda answer: self._write(answer, events), fingerprint)
        metrics.STARTED.inc()
        # Of the count alone: an answer is kept for minutes, and the picture must not be with it.
        answer.estimate = functools.partial(usage.estimate, usage.prompt_tokens(asked))
        answer.on_read = self._remember_turn
        self._shared.publish(answer, fingerprint, lambda: self._stop(answer))
        if question.image:
            self._remember(self._sessions.remember_picture(started.student_id, started.session_id, asked.picture))
        return answer

    def _remember_turn(self, answer: Answer) -> None:
        """Remembers a question with the answer that its student has read to the end."""
        answer.on_read = nothing
        if isinstance(answer.ending, Finished) and answer.deltas:
            started = answer.started
            turn = Turn(started.question, answer.text, started.answer_id)
            self._remember(self._sessions.remember_turn(started.student_id, started.session_id, turn))

    def _remember(self, remembering: Coroutine[None, None, None]) -> None:
        # Beside the stream: what keeps sessions may be slow, and must not make the stream so.
        task = asyncio.ensure_future(remembering)
        self._remembering.add(task)
        task.add_done_callback(self._remembering.discard)

    async def _write(self, answer: Answer, events: AsyncGenerator[ModelEvent, None]) -> None:
        """Lets the model write the answer, and ends it whatever happens; cancelled, there is nobody to end it for."""
        try:
            await _ended(answer, self._read_model(answer, events))
        finally:
            log_end(answer)

    async def _read_model(self, answer: Answer, events: AsyncGenerator[ModelEvent, None]) -> None:
        """Appends the model's text to the answer until it is done. Until it has begun, the deadline is the model's."""
        loop = asyncio.get_running_loop()
        last, stall = loop.time() + self._deadlines.answer, self._deadlines.stall
        set_to, pace = 0.0, metrics.Pace(loop.time() - answer.elapsed)
        try:
            async with asyncio.timeout(None) as deadline, aclosing(events):
                async for event in events:
                    _take(answer, event)
                    now = loop.time()
                    if isinstance(event, Delta):
                        pace.text(now)
                    # A timer costs more than a token: it is put off by a little too much, and so for many at once.
                    if set_to < now + stall:
                        set_to = now + stall * 1.05
                        deadline.reschedule(min(last, set_to))
        except TimeoutError:
            late = loop.time() >= last
            raise EngineError(Reason.DEADLINE_EXCEEDED if late else Reason.UPSTREAM_TIMEOUT) from None


def _take(answer: Answer, event: ModelEvent) -> None:
    """Does to an answer what an event of its model says."""
    match event:
        case Delta(text):
            answer.append(text)
        case Begun(model):
            answer.settle(model)
        case Done(finish_reason, used):
            answer.end(Finished(finish_reason, used or answer.estimate(answer.text), answer.elapsed))


def _inspected(data: bytes) -> image.Picture:
    try:
        return image.inspect(data)
    except image.ImageError as error:
        raise EngineError(Reason.IMAGE_UNREADABLE, str(error), field="question.image") from None


async def _ended(answer: Answer, writing: Awaitable[None]) -> None:
    """Ends the answer with whatever makes `writing` fail."""
    try:
        await writing
    except EngineError as error:
        answer.end(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the readers must be told
        log_unexpected(log, error)
        answer.end(EngineError(Reason.INTERNAL))


async def _caught_up(answer: Answer, remote: RemoteAnswer, after: int) -> None:
    """Waits for a copy to come to what the reader has seen elsewhere already, which takes moments.

    Raises:
        EngineError: ENGINE_UNAVAILABLE, when it does not and nobody can tell whether it should.
    """
    with answer.reader(), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CATCH_UP_SECONDS):
            await answer.grown(after - 1)
    if isinstance(answer.ending, EngineError) and answer.ending.reason is Reason.ENGINE_UNAVAILABLE:
        raise answer.ending
    if answer.ending is None and len(answer.deltas) < after and not remote.current():
        raise EngineError(Reason.ENGINE_UNAVAILABLE)

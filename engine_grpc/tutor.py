"""The product's rules: check a question, join its answer or start one, and remember it when it has been read.

An answer is ended by its writer, by whoever stops it, or by draining; the first of them counts. One whose writer is
cancelled because nobody reads any more has no ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from engine_grpc import image, metrics, prompt, usage
from engine_grpc.answers import Answer, Finished, Started, nothing
from engine_grpc.errors import EngineError, Reason
from engine_grpc.sessions import Context, Turn
from engine_grpc.writer import ended, write

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractContextManager

    from engine_grpc.model import ChatModel, Prompt
    from engine_grpc.question import Question
    from engine_grpc.registry import Answers
    from engine_grpc.sessions import Sessions
    from engine_grpc.shared import RemoteAnswer, SharedAnswers
    from engine_grpc.writer import Deadlines

_CATCH_UP_SECONDS = 2
_LAST_TURNS_SECONDS = 2


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
        shared: SharedAnswers,
    ) -> None:
        self._model = model
        self._answers = answers
        self._sessions = sessions
        self._deadlines = deadlines
        self._shared = shared
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

    async def resume(self, answer_id: str, student_id: str, after: int, boundary: int) -> Answer:
        """Returns a student's answer, to be read behind the event numbered `after`; one ends at `boundary`, too.

        Raises:
            EngineError: ANSWER_NOT_FOUND, ENGINE_UNAVAILABLE, or INVALID_REQUEST when there is no such event yet.
        """
        answer = await self._find(answer_id, student_id)
        remote = self._answers.remote(answer)
        if remote:
            await _caught_up(answer, remote, max(after, boundary))
        if max(after, boundary) > len(answer.deltas) + (answer.ending is not None):
            field = "boundary_sequence" if boundary > after else "after_sequence"
            raise EngineError(Reason.INVALID_REQUEST, "The answer has no such event.", field=field)
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
        answer = self._answers.follow(remote, lambda answer: ended(answer, remote.follow))
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
        deadlines = self._deadlines
        events = self._model.stream(asked, min(deadlines.first_token, deadlines.answer))
        answer = self._answers.start(started, lambda answer: write(answer, events, deadlines), fingerprint)
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


def _inspected(data: bytes) -> image.Picture:
    try:
        return image.inspect(data)
    except image.ImageError as error:
        raise EngineError(Reason.IMAGE_UNREADABLE, str(error), field="question.image") from None


async def _caught_up(answer: Answer, remote: RemoteAnswer, after: int) -> None:
    """Waits for a copy to come to what the reader has seen elsewhere already, which takes moments.

    Raises:
        EngineError: ENGINE_UNAVAILABLE, when it does not and nobody can tell whether it should.
    """
    with answer.reader(), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CATCH_UP_SECONDS):
            await answer.grown(after - 1)
    if isinstance(answer.ending, EngineError) and answer.ending.reason is Reason.ENGINE_UNAVAILABLE:
        raise answer.ending.alone()
    if answer.ending is None and len(answer.deltas) < after and not remote.current():
        raise EngineError(Reason.ENGINE_UNAVAILABLE)

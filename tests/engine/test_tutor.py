"""The product's rules by themselves, at moments that no call can choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from engine_grpc.answers import Started
from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import Begun
from engine_grpc.question import Question
from engine_grpc.registry import Answers
from engine_grpc.sessions import MemorySessions
from engine_grpc.shared import RemoteAnswer, Unshared
from engine_grpc.tutor import Tutor
from engine_grpc.wiring import deadlines, end_log, keeping
from tests.engine.harness import WORKSHEET, engine_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine_grpc.answers import Answer
    from engine_grpc.model import ModelEvent, Prompt
    from engine_grpc.shared import SharedAnswers

STUDENT = "anna"


class Thinking:
    """A model that begins, and is asked no more."""

    name = "thinking"
    settled = True

    async def stream(self, prompt: Prompt, within: float) -> AsyncGenerator[ModelEvent, None]:
        yield Begun(self.name)


class Gone(Unshared):
    """Engines of which each one that has the answer is gone."""

    def __init__(self) -> None:
        self.copies: list[Answer] = []

    async def find(self, answer_id: str) -> RemoteAnswer:
        started = Started(answer_id=answer_id, student_id=STUDENT, session_id="s", model="m")
        return RemoteAnswer(started, self._follow, self._follow, lambda: True)

    async def _follow(self, answer: Answer) -> None:
        self.copies.append(answer)
        raise EngineError(Reason.ENGINE_UNAVAILABLE)


def tutor(shared: SharedAnswers) -> tuple[Tutor, Answers]:
    settings = engine_settings()
    answers = Answers(keeping(settings), end_log(settings))
    return Tutor(Thinking(), answers, MemorySessions(60), deadlines(settings), shared), answers


async def test_answer_that_draining_ends_before_its_first_step_is_logged_like_any_other() -> None:
    asked, answers = tutor(Unshared())
    with capture_logs() as logs:
        answer = await asked.ask(
            Question(image=WORKSHEET, prompt="What is x?", subject="", session_id="", student_id=STUDENT)
        )
        await answers.close()
    (ended,) = [entry for entry in logs if entry["event"] == "answer ended"]
    assert (ended["answer_id"], ended["outcome"]) == (answer.started.answer_id, "drained")


async def test_failure_that_is_told_to_who_comes_back_leaves_nothing_in_the_answer() -> None:
    shared = Gone()
    asked, _ = tutor(shared)
    with pytest.raises(EngineError) as told:
        await asked.resume("answer", STUDENT, after=3, boundary=0)
    (copy,) = shared.copies
    assert isinstance(copy.ending, EngineError)
    assert told.value.reason is copy.ending.reason is Reason.ENGINE_UNAVAILABLE
    assert copy.ending.__traceback__ is None

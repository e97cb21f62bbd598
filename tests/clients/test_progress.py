"""What the caller sees of an answer that was asked for anew, however its pieces are cut when they come again."""

from __future__ import annotations

from datetime import timedelta

from studyai_client import (
    AnswerNotFoundError,
    Backoff,
    ConnectionLostError,
    Delta,
    Event,
    Finished,
    Started,
    Usage,
)
from studyai_client.options import Deadline
from studyai_client.progress import Ask, Numbered, Progress, Resume
from studyai_client.question import Question

USAGE = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)


def started(answer_id: str) -> Started:
    return Started(answer_id=answer_id, model="m", session_id=None, started_at=None)


def finished(text: str) -> Finished:
    return Finished(text=text, finish_reason="stop", usage=USAGE, elapsed=timedelta(seconds=1))


def forgotten_after(*seen: Event) -> Progress:
    """An answer of which so much was seen, when its stream was cut and another engine did not know it."""
    progress = Progress(Question(image=b"", prompt="p", key="k"), Backoff(), Deadline(100))
    assert isinstance(progress.next_step(), Ask)
    for number, event in enumerate(seen):
        assert progress.take(Numbered(number, event)) == event
    progress.failed(ConnectionLostError("cut", retryable=True))
    assert isinstance(progress.next_step(), Resume)
    progress.failed(AnswerNotFoundError("unknown here"))
    assert isinstance(progress.next_step(), Ask)
    return progress


def test_answer_that_is_joined_again_goes_on_where_it_was_however_it_is_cut() -> None:
    progress = forgotten_after(started("a"), Delta(text="So "), Delta(text="x "))
    pieces: list[Event] = [started("a"), Delta(text="So "), Delta(text="x = 6"), Delta(text=".")]
    taken = [progress.take(Numbered(number, event)) for number, event in enumerate(pieces)]
    assert taken == [None, None, Delta(text="= 6"), Delta(text=".")]
    assert progress.take(Numbered(6, finished("So x = 6."))) == finished("So x = 6.")


def test_another_answer_begins_from_its_start() -> None:
    progress = forgotten_after(started("a"), Delta(text="So "))
    again: list[Event] = [started("b"), Delta(text="Well, ")]
    assert [progress.take(Numbered(number, event)) for number, event in enumerate(again)] == again
    assert (progress.answer_id, progress.text) == ("b", "Well, ")

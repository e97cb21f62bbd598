"""The log and its cursors."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from engine_grpc.answers import Answer, Finished, Started, nothing
from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import FinishReason, Usage
from engine_grpc.registry import Answers, Keeping
from tests.waiting import turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine_grpc.answers import Piece

END = Finished(FinishReason.STOP, Usage(1, 2, 3), 0.1)


def started(question: str = "") -> Started:
    return Started(student_id="anna", session_id="session", model="model", question=question)


def registry(on_written: Callable[[Answer], object] = nothing, **keeping: Any) -> Answers:
    """A registry that keeps answers for so long, and so many."""
    return Answers(Keeping(**{"resume_window": 30, "answer_ttl": 300, "max_live": 1000, **keeping}), on_written)


async def pieces(answer: Answer) -> list[Piece]:
    with answer.reader() as reader:
        return [piece async for piece in reader]


async def test_reader_gets_each_delta_as_it_comes() -> None:
    answer = Answer(started())
    with answer.reader() as reader:
        for number, text in enumerate(["a", "b"], start=1):
            # Not before the reader waits.
            asyncio.get_running_loop().call_soon(answer.append, text)
            piece = await anext(reader)
            assert (piece.sequence, piece.text) == (number, text)


async def test_late_reader_gets_the_missed_deltas_as_one_piece() -> None:
    answer = Answer(started())
    for text in ("a", "b", "c"):
        answer.append(text)
    answer.end(END)
    (piece,) = await pieces(answer)
    assert (piece.sequence, piece.text) == (3, "abc")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, [(3, "é√x🎓"), (4, "a")]),
        (1, [(3, "√x🎓"), (4, "a")]),
        (2, [(3, "🎓"), (4, "a")]),
        (3, [(4, "a")]),
        (4, []),
    ],
)
async def test_reader_that_comes_back_misses_and_doubles_nothing_of_text_in_any_script(
    after: int, expected: list[tuple[int, str]]
) -> None:
    answer = Answer(started())
    for text in ("é", "√x", "🎓", "a"):
        answer.append(text)
    answer.end(END)
    with answer.reader(after, boundary=3) as reader:
        assert [(piece.sequence, piece.text) async for piece in reader] == expected


async def test_all_readers_read_the_same_text_at_their_own_pace() -> None:
    answer = Answer(started())
    with answer.reader() as early, answer.reader() as late:
        answer.append("a")
        assert (await anext(early)).text == "a"
        answer.append("b")
        answer.end(END)
        assert (await anext(early)).text == "b"
        assert (await anext(late)).text == "ab"


async def test_failure_comes_after_the_text_before_it() -> None:
    answer = Answer(started())
    answer.append("a")
    answer.end(EngineError(Reason.UPSTREAM_TRUNCATED))
    with answer.reader() as reader:
        assert (await anext(reader)).text == "a"
        with pytest.raises(EngineError):
            await anext(reader)


async def test_only_the_first_ending_counts() -> None:
    answer = Answer(started())
    answer.end(END)
    answer.end(EngineError(Reason.INTERNAL))
    assert await pieces(answer) == []


async def test_last_readers_leaving_cancels_the_writer() -> None:
    answers = registry(max_live=1)
    cancelled = asyncio.Event()

    async def write(answer: Answer) -> None:
        answer.append("a")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    answer = answers.start(started(), write)
    with answer.reader() as one:
        with answer.reader():
            await anext(one)
        # A turn of the loop, in which the writer would end.
        asyncio.get_running_loop().call_soon(answer.append, "b")
        await anext(one)
        assert not cancelled.is_set()
    async with asyncio.timeout(5):
        await cancelled.wait()
        await answers.close()
    assert answers.live == 0


async def test_readers_leaving_after_the_ending_disturbs_nobody() -> None:
    answers = registry(max_live=1)
    left, done = asyncio.Event(), asyncio.Event()

    async def write(answer: Answer) -> None:
        answer.end(END)
        await left.wait()
        done.set()

    await pieces(answers.start(started(), write))
    left.set()
    async with asyncio.timeout(5):
        await done.wait()


async def test_answer_over_the_limit_is_refused_until_another_ends() -> None:
    answers = registry(max_live=1)
    release = asyncio.Event()

    async def write(answer: Answer) -> None:
        await release.wait()
        answer.end(END)

    first = answers.start(started(), write)
    with pytest.raises(EngineError) as refused:
        answers.start(started(), write)
    assert refused.value.reason is Reason.OVERLOADED
    release.set()
    await pieces(first)
    await answers.close()  # waits until the writer is gone
    await pieces(answers.start(started(), write))


async def test_ended_answers_take_no_more_memory_than_they_may_and_the_newest_is_kept() -> None:
    answers = registry(max_ended_bytes=2_000_000)

    async def write(answer: Answer) -> None:
        for _ in range(answer.started.question.count("q")):
            answer.append("a")
        answer.end(END)

    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for length in [1] * 600 + [1000] * 600:
        newest = answers.start(started("q" * length), write)
        await pieces(newest)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert answers.find(newest.started.answer_id, "anna") is newest
    assert 1_500_000 < grown < 2_500_000


async def fail() -> None:
    raise EngineError(Reason.UPSTREAM_TRUNCATED) from ValueError()


async def test_kept_failure_keeps_nothing_of_what_it_came_through() -> None:
    answer = Answer(started())
    with pytest.raises(EngineError) as failed:
        await fail()
    answer.end(failed.value)
    raised = []
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            await pieces(answer)
        raised.append(caught.value)
    assert isinstance(answer.ending, EngineError)
    assert answer.ending.__traceback__ is None
    assert answer.ending.__context__ is None
    assert raised[0] is not raised[1]


async def test_late_failure_of_an_answer_that_was_given_up_leaves_its_key_to_the_next() -> None:
    answers = registry(resume_window=0)
    named = Started(student_id="anna", session_id="session", model="model", key="key")
    writing, over = asyncio.Event(), asyncio.Event()

    async def fail_when_it_is_cancelled(answer: Answer) -> None:
        try:
            writing.set()
            await over.wait()
        except asyncio.CancelledError:
            answer.end(EngineError(Reason.UPSTREAM_TRUNCATED))

    async def write(_answer: Answer) -> None:
        await over.wait()

    given_up = answers.start(named, fail_when_it_is_cancelled)
    await writing.wait()
    with given_up.reader():
        pass
    while answers.knows(named.answer_id):
        await turns()
    later = answers.start(replace(named, answer_id="later"), write)
    while given_up.ending is None or answers.live > 1:
        await turns()
    assert answers.join("anna", "key", b"") is later
    await answers.close()

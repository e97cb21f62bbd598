"""The fold from messages to events, without a wire: whatever comes, however it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studyai.v1.chat_pb2 import ChatImageResponse, TextDelta

from sse_gateway.errors import ErrorCode, GatewayError
from sse_gateway.events import AnswerEvents, EventOrderError, whole_answer
from sse_gateway.live import LiveAnswer, NothingNewError
from sse_gateway.record import RequestRecord
from tests.gateway.fake_engine import FINISHED, STARTED
from tests.gateway.wire import events_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


def message(sequence: int = 0, **event: Any) -> ChatImageResponse:
    return ChatImageResponse(sequence=sequence, **event)


@given(pieces=st.lists(st.tuples(TEXT, st.booleans())), accumulate=st.booleans())
def test_text_is_whole_however_it_is_cut_and_taken(pieces: list[tuple[str, bool]], accumulate: bool) -> None:
    events = AnswerEvents(accumulate=accumulate)
    events.fold(message(started=STARTED))
    stream = b""
    for sequence, (piece, taken) in enumerate(pieces, 1):
        events.fold(message(sequence, text_delta=TextDelta(text=piece)))
        if taken:
            stream += events.take()
    events.fold(message(len(pieces) + 1, finished=FINISHED))
    stream += events.take()
    told = events_in(stream)
    text = "".join(piece for piece, _ in pieces)
    contents = told[1:-1]
    assert [told[0]["type"], told[-1]["type"]] == ["start", "end"]
    assert told[-1]["content"] == "".join(event["delta"] for event in contents) == text
    if accumulate:
        so_far = ""
        for event in contents:
            so_far += event["delta"]
            assert event["content"] == so_far
    assert stream.isascii()
    assert events.ended


def test_nothing_new_is_nothing_to_write() -> None:
    events = AnswerEvents(accumulate=True)
    assert events.take() == b""
    events.fold(message(started=STARTED))
    assert events.take()
    assert events.take() == b""
    assert not events.ended


@pytest.mark.parametrize(
    "messages",
    [
        [message(text_delta=TextDelta(text="This"))],
        [message(finished=FINISHED)],
        [message(started=STARTED), message(started=STARTED)],
        [message(started=STARTED), message(finished=FINISHED), message(finished=FINISHED)],
        [message(started=STARTED), message(finished=FINISHED), message(text_delta=TextDelta(text="This"))],
    ],
)
def test_messages_out_of_order_are_refused(messages: list[ChatImageResponse]) -> None:
    events = AnswerEvents(accumulate=True)
    for good in messages[:-1]:
        events.fold(good)
    with pytest.raises(EventOrderError):
        events.fold(messages[-1])


async def test_answer_that_has_ended_does_not_fail_any_more() -> None:
    async def engine() -> AsyncGenerator[ChatImageResponse, None]:
        yield message(started=STARTED)
        yield message(1, finished=FINISHED)
        yield message(2, text_delta=TextDelta(text="more"))

    record = RequestRecord("req-8")

    async def grew() -> None:
        """Nobody writes."""

    answer = LiveAnswer(engine(), record, AnswerEvents(accumulate=True))
    await answer.run(grew)
    assert [event["type"] for event in events_in(answer.take())] == ["start", "end"]
    assert answer.ended
    assert record.outcome is None


async def test_failure_behind_an_end_that_was_seen_before_is_nothing_new() -> None:
    async def engine() -> AsyncGenerator[ChatImageResponse, None]:
        yield message(started=STARTED)
        yield message(1, finished=FINISHED)
        raise GatewayError(ErrorCode.ENGINE_UNAVAILABLE)

    async def grew() -> None:
        raise AssertionError("there is nothing to write")

    with pytest.raises(NothingNewError):
        await LiveAnswer(engine(), RequestRecord("req-8"), AnswerEvents(accumulate=True, after=1)).run(grew)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [message(started=STARTED)],
        [message(started=STARTED), message(1, text_delta=TextDelta(text="half an ans"))],
        [message(1, text_delta=TextDelta(text="an answer")), message(2, finished=FINISHED)],
        [message(started=STARTED), message(1, finished=FINISHED), message(2, finished=FINISHED)],
    ],
)
def test_part_of_an_answer_is_no_whole_one(messages: list[ChatImageResponse]) -> None:
    with pytest.raises(EventOrderError):
        whole_answer(messages)


def test_whole_answer_is_its_messages_as_one() -> None:
    texts = [message(number, text_delta=TextDelta(text=text)) for number, text in enumerate(["This", " is"], 1)]
    answer = whole_answer([message(started=STARTED), *texts, message(3), message(4, finished=FINISHED)])
    assert (answer.started, answer.text, answer.finished) == (STARTED, "This is", FINISHED)


def test_answer_without_an_end_is_not_complete() -> None:
    events = AnswerEvents(accumulate=True)
    events.fold(message(started=STARTED))
    with pytest.raises(EventOrderError):
        events.check_complete()

"""Answers that outlive the connection: join, resume, replay, the window, stop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from studyai.v1 import chat_pb2

from tests import upstream as up
from tests.engine.harness import bad_request, error_info, question, read, running_engine
from tests.waiting import until

if TYPE_CHECKING:
    from tests.engine.harness import RunningEngine, Streamed
    from tests.upstream import Upstream

KEY = "question-1"
WORDS = ["The", " answer", " is", " 6."]


def keyed(key: str = KEY, **fields: Any) -> chat_pb2.ChatImageRequest:
    return chat_pb2.ChatImageRequest(question=question(**fields), request_id=key)


async def ask(engine: RunningEngine, key: str = KEY, **fields: Any) -> Streamed:
    return await read(engine.stub.ChatImage(keyed(key, **fields)))


async def resume(engine: RunningEngine, answer_id: str, after: int = 0, student_id: str = "") -> Streamed:
    asks = chat_pb2.ResumeAnswerRequest(answer_id=answer_id, after_sequence=after, student_id=student_id)
    return await read(engine.stub.ResumeAnswer(asks))


async def stop(engine: RunningEngine, answer_id: str, student_id: str = "") -> None:
    await engine.stub.StopAnswer(chat_pb2.StopAnswerRequest(answer_id=answer_id, student_id=student_id))


def whole(gates: list[up.Signal]) -> list[Any]:
    return [up.stream_headers(), up.gated(gates, WORDS), up.finish(), up.usage(30, 20), up.done()]


def gates() -> list[up.Signal]:
    return [up.Signal() for _ in WORDS]


async def begin(engine: RunningEngine, opening: list[up.Signal], key: str = KEY, **fields: Any) -> tuple[str, Any]:
    """Asks with a key and reads up to the first word; returns the answer's id and the open call."""
    call = engine.stub.ChatImage(keyed(key, **fields))
    opening[0].set()
    messages = aiter(call)
    started = await anext(messages)
    assert (await anext(messages)).text_delta.text == WORDS[0]
    return started.started.answer_id, call


async def test_every_request_with_the_key_joins_the_same_answer(engine: RunningEngine, upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*whole(opening))
    asks = chat_pb2.CompleteChatImageRequest(question=question(), request_id=KEY)
    reading = [asyncio.ensure_future(ask(engine)) for _ in range(10)]
    fallback = asyncio.ensure_future(_unary(engine, asks))
    await upstream.request(0)
    for one in opening:
        one.set()
    streams = await asyncio.gather(*reading)
    late = await ask(engine)
    assert {streamed.text for streamed in (*streams, late)} == {"".join(WORDS)} == {(await fallback).text}
    assert len({streamed.messages[0].started.answer_id for streamed in (*streams, late)}) == 1
    assert len(upstream.requests) == 1


async def _unary(engine: RunningEngine, asks: chat_pb2.CompleteChatImageRequest) -> chat_pb2.CompleteChatImageResponse:
    return await engine.stub.CompleteChatImage(asks)


async def test_fallback_after_a_broken_stream_gives_the_answer_that_the_stream_began(
    engine: RunningEngine, upstream: Upstream
) -> None:
    opening = gates()
    upstream.script(*whole(opening))
    answer_id, call = await begin(engine, opening)
    call.cancel()
    for one in opening:
        one.set()
    reply = await engine.stub.CompleteChatImage(chat_pb2.CompleteChatImageRequest(question=question(), request_id=KEY))
    assert (reply.started.answer_id, reply.text) == (answer_id, "".join(WORDS))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "other", [{"prompt": "Another?"}, {"subject": "art"}, {"session_id": "s"}, {"image": b"\x89PNG\r\n\x1a\n"}]
)
async def test_key_with_another_question_is_refused(engine: RunningEngine, other: dict[str, Any]) -> None:
    await ask(engine)
    streamed = await ask(engine, **other)
    assert streamed.reason == "IDEMPOTENCY_KEY_REUSED"
    assert streamed.error is not None
    assert streamed.error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_same_key_of_another_student_is_another_question(engine: RunningEngine, upstream: Upstream) -> None:
    streams = [await ask(engine, student_id=student) for student in ("anna", "ben")]
    assert len({streamed.messages[0].started.answer_id for streamed in streams}) == 2
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("key", ["a b", "é", "x" * 129, "a\n"])
async def test_key_that_breaks_the_rules_is_refused(engine: RunningEngine, key: str) -> None:
    streamed = await ask(engine, key)
    assert streamed.reason == "INVALID_REQUEST"
    assert streamed.error is not None
    named = bad_request(streamed.error)
    assert named is not None
    assert named.field_violations[0].field == "request_id"


async def test_students_name_that_breaks_the_rules_is_refused_by_its_path_in_the_request(engine: RunningEngine) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stop(engine, "0" * 32, "a b")
    named = bad_request(refused.value)
    assert named is not None
    assert named.field_violations[0].field == "student_id"


async def test_resumed_stream_goes_on_after_the_last_event_seen(engine: RunningEngine, upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*whole(opening))
    answer_id, call = await begin(engine, opening)
    call.cancel()
    resumed = asyncio.ensure_future(resume(engine, answer_id, after=1))
    for one in opening:
        one.set()
    streamed = await resumed
    assert streamed.text == "".join(WORDS[1:])
    assert streamed.messages[0].sequence > 1
    assert streamed.finished is not None


async def test_ended_answer_is_replayed_from_anywhere(engine: RunningEngine) -> None:
    first = await ask(engine, "")
    answer_id, last = first.messages[0].started.answer_id, first.messages[-1].sequence
    replayed = await resume(engine, answer_id)
    assert replayed.messages[0].started == first.messages[0].started
    assert replayed.text == first.text
    assert replayed.finished == first.finished
    for after in [message.sequence for message in first.messages[1:]]:
        rest = await resume(engine, answer_id, after)
        assert rest.text == "".join(m.text_delta.text for m in first.messages if m.sequence > after)
        assert rest.finished == first.finished
        assert [message.sequence for message in rest.messages][-1] == last


async def test_replayed_pieces_end_at_the_boundary_asked_for(engine: RunningEngine) -> None:
    first = await ask(engine)
    answer_id = first.messages[0].started.answer_id
    for boundary in [message.sequence for message in first.messages[1:]]:
        asks = chat_pb2.ResumeAnswerRequest(answer_id=answer_id, boundary_sequence=boundary)
        replayed = await read(engine.stub.ResumeAnswer(asks))
        before = [message.text_delta.text for message in replayed.messages if message.sequence <= boundary]
        assert "".join(before) == "".join(m.text_delta.text for m in first.messages if m.sequence <= boundary)
        assert replayed.text == first.text


@pytest.mark.parametrize("field", ["after_sequence", "boundary_sequence"])
async def test_number_beyond_the_last_event_is_refused_by_its_field(engine: RunningEngine, field: str) -> None:
    first = await ask(engine)
    answer_id, last = first.messages[0].started.answer_id, first.messages[-1].sequence
    asks: Any = {"answer_id": answer_id, field: last + 1}
    streamed = await read(engine.stub.ResumeAnswer(chat_pb2.ResumeAnswerRequest(**asks)))
    assert streamed.reason == "INVALID_REQUEST"
    assert streamed.error is not None
    named = bad_request(streamed.error)
    assert named is not None
    assert named.field_violations[0].field == field


@pytest.mark.parametrize(
    ("answer_id", "student_id"), [("0" * 32, ""), ("", ""), ("../x", ""), ("theirs", "ben"), ("theirs", "")]
)
async def test_unknown_answers_and_other_students_are_not_found(
    engine: RunningEngine, answer_id: str, student_id: str
) -> None:
    theirs = (await ask(engine, student_id="anna")).messages[0].started.answer_id
    asked = theirs if answer_id == "theirs" else answer_id
    streamed = await resume(engine, asked, student_id=student_id)
    assert streamed.reason == "ANSWER_NOT_FOUND"
    assert streamed.error is not None
    assert streamed.error.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stop(engine, asked, student_id)
    assert error_info(caught.value).reason == "ANSWER_NOT_FOUND"


async def test_event_that_never_was_is_refused(engine: RunningEngine) -> None:
    first = await ask(engine)
    streamed = await resume(engine, first.messages[0].started.answer_id, after=first.messages[-1].sequence + 1)
    assert streamed.reason == "INVALID_REQUEST"


async def test_expired_answer_is_not_found_and_its_key_asks_anew(upstream: Upstream) -> None:
    async with running_engine(upstream, answer_ttl_seconds=0.05) as engine:
        first = await ask(engine)

        async def gone() -> bool:
            streamed = await resume(engine, first.messages[0].started.answer_id)
            return streamed.error is not None and streamed.reason == "ANSWER_NOT_FOUND"

        await until(gone)
        await ask(engine)
    assert len(upstream.requests) == 2


async def test_answer_with_a_key_goes_on_for_the_window_and_then_stops(upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*whole(opening))
    async with running_engine(upstream, resume_window_seconds=0.3) as engine:
        answer_id, call = await begin(engine, opening)
        left = time.monotonic()
        call.cancel()
        asked = await upstream.request(0)
        await asked.closed.within()
        assert asked.closed_at is not None
        assert 0.3 <= asked.closed_at - left < 0.3 + 0.25
        assert (await resume(engine, answer_id)).reason == "ANSWER_NOT_FOUND"


async def test_reader_in_the_window_keeps_the_answer(upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*whole(opening))
    upstream.script(up.stream_headers(), up.chunk(WORDS[0]), up.silence())
    async with running_engine(upstream, resume_window_seconds=0.2) as engine:
        answer_id, call = await begin(engine, opening)
        call.cancel()
        resumed = asyncio.ensure_future(resume(engine, answer_id, after=1))
        # The window of an answer that was left later passes, and so has this one's.
        _, later = await begin(engine, opening, key="question-2")
        later.cancel()
        await (await upstream.request(1)).closed.within()
        for one in opening:
            one.set()
        async with asyncio.timeout(5):
            assert (await resumed).text == "".join(WORDS[1:])


async def test_stop_ends_every_readers_stream_and_the_models_connection(
    engine: RunningEngine, upstream: Upstream
) -> None:
    opening = gates()
    upstream.script(*whole(opening))
    answer_id, call = await begin(engine, opening)
    others = [asyncio.ensure_future(resume(engine, answer_id)) for _ in range(3)]
    unary = asyncio.ensure_future(
        _unary(engine, chat_pb2.CompleteChatImageRequest(question=question(), request_id=KEY))
    )
    opening[1].set()
    asked = await upstream.request(0)
    since = time.monotonic()
    await stop(engine, answer_id)
    await asked.closed.within()
    assert asked.closed_at is not None
    assert asked.closed_at - since < 0.25
    for streamed in await asyncio.gather(*others):
        assert streamed.finished is not None
        assert streamed.finished.finish_reason == chat_pb2.FINISH_REASON_STOPPED
        assert streamed.finished.usage.estimated
        assert "".join(WORDS).startswith(streamed.text)
    assert (await unary).finished.finish_reason == chat_pb2.FINISH_REASON_STOPPED
    await stop(engine, answer_id)
    call.cancel()


async def test_failure_that_may_be_tried_again_frees_its_key(engine: RunningEngine, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("Hi"), up.reset())
    assert (await ask(engine)).reason == "UPSTREAM_TRUNCATED"
    assert (await ask(engine)).error is None
    assert len(upstream.requests) == 2


async def test_failure_that_may_not_be_tried_again_is_replayed(engine: RunningEngine, upstream: Upstream) -> None:
    upstream.script(up.refusal(400))
    for _ in range(2):
        assert (await ask(engine)).reason == "UPSTREAM_REJECTED"
    assert len(upstream.requests) == 1

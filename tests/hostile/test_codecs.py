"""The codecs, fed with whatever Hypothesis thinks of. FUZZ_EXAMPLES asks for more than the usual few hundred each."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from studyai.v1.chat_pb2 import AnswerFinished, AnswerStarted, ChatImageResponse, TextDelta, TokenUsage

from engine_grpc import redis_codec as codec
from engine_grpc.answers import Answer, Finished, Started
from engine_grpc.errors import EngineError, Reason
from engine_grpc.event_stream import EventStreamDecoder
from engine_grpc.model import FinishReason, Usage
from engine_grpc.openai_wire import Chunk, TextJoiner, parse_chunk
from sse_gateway.events import AnswerEvents, EventOrderError
from tests.fuzz.corpus import corpus
from tests.fuzz.targets import TARGETS
from tests.gateway.wire import events_in

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
many = settings(max_examples=EXAMPLES)

TEXT = st.text(st.characters(codec="utf-8"))
ANY_TEXT = st.text(st.characters())  # halves of surrogate pairs included
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
LINES = st.sampled_from(
    [b"data", b"data:", b"data: ", b":", b"id: 1", b"event: x", b"\r", b"\n", b"\r\n", b"\xef\xbb\xbf", b"[DONE]"]
)
BODY = st.lists(LINES | st.binary(max_size=6)).map(b"".join)


def by_the_standard(body: bytes) -> list[bytes]:
    """The data of a body's events as the HTML standard parses it (9.2.6), line by line, all at once."""
    body = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in body.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return events


@many
@given(BODY, st.lists(st.integers(0, 60), max_size=5))
def test_event_stream_is_the_standards_wherever_it_is_cut(body: bytes, places: list[int]) -> None:
    cuts = sorted(place for place in places if place <= len(body))
    decoder = EventStreamDecoder()
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert [event for piece in pieces for event in decoder.feed(piece)] == by_the_standard(body)


CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": JSON,
                    "delta": JSON | st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON}),
                    "finish_reason": JSON | st.sampled_from(["stop", "length", "abort", "error"]),
                },
            ),
            max_size=2,
        ),
        "usage": JSON | st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), JSON),
        "error": JSON | st.dictionaries(st.sampled_from(["code", "type", "status"]), JSON),
    },
)


def understood(data: bytes) -> tuple[Chunk | None, str]:
    try:
        return parse_chunk(data), ""
    except EngineError as error:
        return None, error.reason


@many
@given((JSON | CHUNKS).map(lambda value: json.dumps(value).encode()) | st.binary())
def test_chunk_is_understood_or_refused_for_a_reason(data: bytes) -> None:
    chunk, reason = understood(data)
    if chunk is None:
        assert reason.startswith("UPSTREAM_")
        return
    assert isinstance(chunk.text, str)
    assert chunk.finish_reason is None or isinstance(chunk.finish_reason, FinishReason)
    if chunk.usage:
        TokenUsage(prompt_tokens=chunk.usage.prompt_tokens, completion_tokens=chunk.usage.completion_tokens)
        TokenUsage(total_tokens=chunk.usage.total_tokens)


@many
@given(st.lists(ANY_TEXT | st.sampled_from(["\ud83d", "\ude00", "\ud83d\ude00"])))
def test_joined_text_is_the_same_however_it_is_cut(pieces: list[str]) -> None:
    joiner = TextJoiner()
    texts = [*map(joiner.add, pieces), joiner.flush()]
    for text in texts:
        text.encode("utf-8")
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert "".join(texts) == whole


STARTED = st.builds(
    AnswerStarted,
    answer_id=TEXT,
    session_id=TEXT,
    model=TEXT,
    start_time=st.builds(Timestamp, seconds=st.integers(-62135596800, 253402300799), nanos=st.integers(0, 999_999_999)),
)
COUNT = st.integers(0, 2**32 - 1)
FINISHED = st.builds(
    AnswerFinished,
    finish_reason=st.integers(0, 9),
    usage=st.builds(
        TokenUsage, prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT, estimated=st.booleans()
    ),
    elapsed=st.builds(Duration, seconds=st.integers(0, 315_576_000_000), nanos=st.integers(0, 999_999_999)),
)


def message(**event: Any) -> ChatImageResponse:
    return ChatImageResponse(**event)


@st.composite
def answers(draw: st.DrawFn) -> list[ChatImageResponse]:
    """An answer's messages, with numbers that rise."""
    texts = draw(st.lists(TEXT.filter(bool), max_size=6))
    numbers = sorted(draw(st.sets(st.integers(1, 2**32 - 2), min_size=len(texts) + 1, max_size=len(texts) + 1)))
    deltas = [message(sequence=n, text_delta=TextDelta(text=text)) for n, text in zip(numbers, texts, strict=False)]
    return [message(started=draw(STARTED)), *deltas, message(sequence=numbers[-1], finished=draw(FINISHED))]


@many
@given(answers(), st.booleans(), st.lists(st.booleans(), min_size=8, max_size=8), st.data())
def test_events_add_up_for_who_begins_and_for_who_resumes(
    messages: list[ChatImageResponse], accumulate: bool, taken: list[bool], data: st.DataObject
) -> None:
    text = "".join(one.text_delta.text for one in messages)
    after = data.draw(st.none() | st.sampled_from([one.sequence for one in messages[:-1]]))
    events, stream = AnswerEvents(accumulate=accumulate, after=after), b""
    for one, take in zip(messages, taken, strict=False):
        events.fold(one)
        if take and events.caught_up:
            stream += events.take()
    stream += b"" if events.ended else events.take()
    assert events.ended
    assert stream.isascii()
    assert stream.count(b"\n") == 3 * stream.count(b"\n\n")
    told = events_in(stream)
    seen = "".join(one.text_delta.text for one in messages if after is not None and one.sequence <= after)
    assert (told[0]["type"] == "start") is (after is None)
    assert told[-1]["type"] == "end"
    assert told[-1]["content"] == text == seen + "".join(event.get("delta", "") for event in told)
    numbers = [int(line[4:]) for line in stream.split(b"\n") if line.startswith(b"id: ")]
    assert numbers == sorted(set(numbers))
    assert after is None or not numbers or numbers[0] > after


@many
@given(answers(), st.randoms())
def test_messages_in_any_order_are_refused_or_make_a_stream(
    messages: list[ChatImageResponse], order: random.Random
) -> None:
    mixed = [*messages, message()]
    order.shuffle(mixed)
    events, stream = AnswerEvents(accumulate=True), b""
    try:
        for one in mixed:
            events.fold(one)
            if events.caught_up and not events.ended:
                stream += events.take()
    except EventOrderError:
        pass
    assert stream.isascii()
    if stream:
        kinds = [event["type"] for event in events_in(stream)]
        assert kinds[0] == "start"
        assert set(kinds[1:-1]) <= {"content"}


ENDINGS = st.builds(
    Finished,
    st.sampled_from(FinishReason),
    st.builds(Usage, COUNT, COUNT, COUNT, st.booleans()),
    st.floats(0, 1e6, allow_nan=False),
) | st.builds(EngineError, st.sampled_from(Reason), retry_after=st.none() | st.floats(0, 100))


@many
@given(st.lists(TEXT.filter(bool), max_size=6), ENDINGS, TEXT, st.integers(0, 6))
async def test_answer_comes_out_of_redis_as_it_went_in(
    deltas: list[str], ending: Finished | EngineError, question: str, first: int
) -> None:
    answer = Answer(Started(student_id="anna", session_id="s", model=question, question=question))
    head = codec.Head(answer.started, "engine", "claim")
    entries, last = [], codec.NOTHING
    for place, delta in enumerate(deltas):
        if place == first:
            entry, last = codec.encode(answer, head, last)
            entries.append(entry)
        answer.append(delta)
    answer.end(ending)
    entries.append(codec.encode(answer, head, last)[0])
    found = codec.decode_head(entries[0].encode())
    assert found is not None
    assert (found.started, found.engine_id) == (answer.started, "engine")
    copy = Answer(found.started)
    for entry in [*entries, *entries]:  # once more changes nothing
        codec.apply(entry.encode(), copy)
    assert copy.deltas.after(0) == deltas
    if isinstance(answer.ending, EngineError):
        assert isinstance(copy.ending, EngineError)
        assert (copy.ending.reason, copy.ending.message) == (answer.ending.reason, answer.ending.message)
    else:
        assert copy.ending == answer.ending


@pytest.mark.parametrize("name", TARGETS)
def test_target_of_the_fuzzer_takes_its_corpus(name: str) -> None:
    for data in corpus(name):
        TARGETS[name](data)


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """The corpus of a target, with bytes put in, taken out and repeated anywhere."""
    edits = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 40), st.binary(max_size=8)), max_size=6)

    def edit(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for place, removed, inserted in changes:
            at = place % (len(data) + 1)
            data = data[:at] + inserted + data[at + removed :]
        return data

    return st.binary() | st.builds(edit, st.sampled_from(corpus(name)), edits)


def check(name: str) -> Callable[[], None]:
    @many
    @given(mutated(name))
    def checked(data: bytes) -> None:
        TARGETS[name](data)

    return checked


@pytest.mark.parametrize("name", TARGETS)
def test_target_of_the_fuzzer_takes_anything(name: str) -> None:
    check(name)()

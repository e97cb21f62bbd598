"""Whatever the model's server does, the student gets one truthful ending, and all the text that came before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from studyai.v1 import chat_pb2

from tests import upstream as up
from tests.engine.harness import request, running_engine
from tests.upstream import events

if TYPE_CHECKING:
    from tests.upstream.steps import Script, Step


@dataclass(frozen=True)
class Case:
    """One thing a server may do, and what is true then."""

    steps: list[Step | Script]
    text: str = ""
    code: str | None = None
    finish_reason: int = chat_pb2.FINISH_REASON_STOP
    total_tokens: int | None = None
    """None: the usage is an estimate."""
    settings: dict[str, object] = field(default_factory=dict)


OPEN = up.stream_headers()
HI = [OPEN, up.role(), up.chunk("Hi"), up.chunk(" there")]
TRICKY = 'He said "x"\n\\frac{1}{2}\u2028\u2029 né 数学 👩‍🏫 \x00\x1f'
TRICKY_BODY = (
    b"".join(events.content_event(letter) for letter in TRICKY) + events.finish_event() + events.usage_event(3, 4)
)
OTHER_CHOICE = events.choice({"content": "No, "}, "length", index=1)
SECOND_PLACE = events.choices_event(OTHER_CHOICE, events.choice({"content": "Hi"}))

ENDS_WELL = {
    "usage reported": Case([*HI, up.finish(), up.usage(30, 20), up.done()], "Hi there", total_tokens=50),
    "no usage": Case([*HI, up.finish(), up.done()], "Hi there"),
    "no [DONE]": Case([*HI, up.finish(), up.usage(30, 20)], "Hi there", total_tokens=50),
    "no [DONE], then silence": Case(
        [*HI, up.finish(), up.silence()], "Hi there", settings={"stall_timeout_seconds": 1}
    ),
    "reset after the finish reason": Case([*HI, up.finish(), up.reset()], "Hi there"),
    "garbage after the finish reason": Case([*HI, up.finish(), up.raw(b"data: nonsense\n\n")], "Hi there"),
    "empty choices first": Case([OPEN, up.empty_choices(), up.chunk("Hi"), up.finish(), up.done()], "Hi"),
    "another choice beside the answer": Case(
        [OPEN, up.raw(events.choices_event(OTHER_CHOICE)), up.chunk("Hi"), up.raw(SECOND_PLACE), up.finish()], "HiHi"
    ),
    "another choice in an odd chunk": Case(
        [OPEN, up.raw(events.choices_event("odd", OTHER_CHOICE)), up.raw(SECOND_PLACE), up.finish(), up.done()], "Hi"
    ),
    "choices without a number": Case(
        [OPEN, up.raw(b'data: {"choices":[{"delta":{"content":"Hi"}},{"delta":{"content":"No"}}]}\n\n'), up.finish()],
        "Hi",
    ),
    "a choice whose number is null": Case(
        [OPEN, up.raw(b'data: {"choices":[{"index":null,"delta":{"content":"Hi"}}]}\n\n'), up.finish()], "Hi"
    ),
    "cut by length": Case(
        [*HI, up.finish("length"), up.done()], "Hi there", finish_reason=chat_pb2.FINISH_REASON_LENGTH
    ),
    "content filter": Case(
        [*HI, up.finish("content_filter"), up.done()], "Hi there", finish_reason=chat_pb2.FINISH_REASON_CONTENT_FILTER
    ),
    "an unknown finish reason": Case([*HI, up.finish("eos"), up.done()], "Hi there"),
    "no text at all": Case([OPEN, up.finish(), up.done()], ""),
    "a refusal": Case(
        [OPEN, up.raw(events.delta_event({"refusal": "I cannot."})), up.finish(), up.done()], "I cannot."
    ),
    "control-only events": Case(
        [OPEN, up.raw(b"id: 7\n\nevent: ping\n\n: note\n\nretry: 5\n\n"), up.chunk("Hi"), up.finish(), up.done()], "Hi"
    ),
    "a byte order mark": Case(
        [OPEN, up.raw(b"\xef\xbb\xbf" + events.content_event("Hi")), up.finish(), up.done()], "Hi"
    ),
    "its own coding named in capitals": Case(
        [up.stream_headers(headers={"content-encoding": "Identity"}), up.chunk("Hi"), up.finish(), up.done()], "Hi"
    ),
    "CRLF line ends": Case(
        [OPEN, up.raw((events.content_event("Hi") + events.finish_event()).replace(b"\n", b"\r\n"))], "Hi"
    ),
    "CR line ends": Case(
        [OPEN, up.raw((events.content_event("Hi") + events.finish_event()).replace(b"\n", b"\r"))], "Hi"
    ),
    "data split over lines": Case(
        [OPEN, up.raw(events.content_event("Hi").replace(b', "', b',\ndata: "')), up.finish(), up.done()], "Hi"
    ),
    "every byte alone": Case([OPEN, up.pieces(TRICKY_BODY)], TRICKY, total_tokens=7),
    "bytes by threes": Case([OPEN, up.pieces(TRICKY_BODY, 3)], TRICKY, total_tokens=7),
    "all in one write": Case([OPEN, up.raw(TRICKY_BODY)], TRICKY, total_tokens=7),
    "a surrogate pair in two chunks": Case(
        [
            OPEN,
            up.raw(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'),
            up.raw(b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n'),
            up.finish(),
            up.done(),
        ],
        "a😀b",
    ),
    "half a surrogate pair": Case(
        [OPEN, up.raw(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'), up.finish(), up.done()], "a\ufffd"
    ),
    "usage that makes no sense": Case(
        [OPEN, up.chunk("Hi"), up.finish(), up.raw(b'data: {"choices":[],"usage":{"prompt_tokens":-1}}\n\n')], "Hi"
    ),
    "usage of booleans": Case(
        [
            OPEN,
            up.chunk("Hi"),
            up.finish(),
            up.raw(b'data: {"usage":{"prompt_tokens":true,"completion_tokens":1}}\n\n'),
        ],
        "Hi",
    ),
    "a body until the connection closes": Case(
        [up.stream_headers(chunked=False), up.chunk("Hi"), up.finish(), up.done()], "Hi"
    ),
}

ENDS_BADLY = {
    "end without finish reason": Case([*HI], "Hi there", "UPSTREAM_TRUNCATED"),
    "[DONE] without finish reason": Case([*HI, up.done()], "Hi there", "UPSTREAM_TRUNCATED"),
    "given up by the server": Case([*HI, up.finish("abort"), up.done()], "Hi there", "UPSTREAM_TRUNCATED"),
    "failed, in a finish reason": Case([*HI, up.finish("error"), up.done()], "Hi there", "UPSTREAM_TRUNCATED"),
    "reset in the middle": Case([*HI, up.reset()], "Hi there", "UPSTREAM_TRUNCATED"),
    "cut in the middle of a chunk": Case(
        [*HI, up.wire(b"1f\r\ndata: {"), up.close()], "Hi there", "UPSTREAM_TRUNCATED"
    ),
    "silence before the first token": Case(
        [OPEN, up.silence()], "", "UPSTREAM_TIMEOUT", settings={"first_token_timeout_seconds": 0.2}
    ),
    "no answer at all": Case([up.silence()], "", "UPSTREAM_TIMEOUT", settings={"first_token_timeout_seconds": 0.2}),
    "keep-alive comments for ever": Case(
        [OPEN, up.raw(b": processing\n\n"), up.silence()],
        "",
        "UPSTREAM_TIMEOUT",
        settings={"first_token_timeout_seconds": 0.2},
    ),
    "silence after tokens": Case(
        [*HI, up.silence()], "Hi there", "UPSTREAM_TIMEOUT", settings={"stall_timeout_seconds": 0.2}
    ),
    "too slow in all": Case(
        [*HI, up.silence()], "Hi there", "DEADLINE_EXCEEDED", settings={"answer_timeout_seconds": 0.3}
    ),
    "400": Case([up.refusal(400)], "", "UPSTREAM_REJECTED"),
    "401": Case([up.refusal(401)], "", "UPSTREAM_AUTH"),
    "403": Case([up.refusal(403)], "", "UPSTREAM_AUTH"),
    "404": Case([up.refusal(404)], "", "UPSTREAM_REJECTED"),
    "429": Case([up.refusal(429, headers={"Retry-After": "60"})], "", "UPSTREAM_RATE_LIMITED"),
    "500 with a long pause": Case([up.refusal(500, headers={"Retry-After": "60"})], "", "UPSTREAM_UNAVAILABLE"),
    "HTML with status 200": Case([up.html(200)], "", "UPSTREAM_PROTOCOL"),
    "a redirect": Case([up.reply(302, headers={"Location": "http://127.0.0.1:9/"})], "", "UPSTREAM_PROTOCOL"),
    "JSON instead of a stream": Case([up.reply(200, {"choices": []})], "", "UPSTREAM_PROTOCOL"),
    "not JSON in an event": Case([*HI, up.raw(b"data: {oops\n\n")], "Hi there", "UPSTREAM_PROTOCOL"),
    "JSON that is no object": Case([*HI, up.raw(b"data: 7\n\n")], "Hi there", "UPSTREAM_PROTOCOL"),
    "bad UTF-8": Case(
        [*HI, up.raw(b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n')], "Hi there", "UPSTREAM_PROTOCOL"
    ),
    "an error object": Case([*HI, up.error_object()], "Hi there", "UPSTREAM_UNAVAILABLE"),
    "an error object in the same write as text": Case(
        [OPEN, up.raw(events.content_event("Hi") + events.error_event())], "Hi", "UPSTREAM_UNAVAILABLE"
    ),
    "a rate limit as an error object": Case(
        [*HI, up.error_object(kind="rate_limit_error")], "Hi there", "UPSTREAM_RATE_LIMITED"
    ),
    "a line without end": Case([*HI, up.raw(b"data: " + b"x" * 2_000_000)], "Hi there", "UPSTREAM_PROTOCOL"),
}


@pytest.mark.parametrize("case", ENDS_WELL.values(), ids=ENDS_WELL)
async def test_whole_answer_is_finished_with_all_of_its_text(case: Case) -> None:
    async with up.Upstream() as upstream, running_engine(upstream, **case.settings) as engine:
        upstream.script(*case.steps)
        streamed = await engine.stream()
    assert streamed.error is None
    assert streamed.text == case.text
    assert streamed.finished is not None
    assert streamed.finished.finish_reason == case.finish_reason
    assert streamed.finished.usage.estimated == (case.total_tokens is None)
    assert case.total_tokens in (None, streamed.finished.usage.total_tokens)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("case", ENDS_BADLY.values(), ids=ENDS_BADLY)
async def test_failed_answer_keeps_its_text_and_names_the_failure(case: Case) -> None:
    async with up.Upstream() as upstream, running_engine(upstream, **case.settings) as engine:
        # The same again for the second try, where there is one.
        upstream.script(*case.steps)
        upstream.script(*case.steps)
        streamed = await engine.stream()
    assert streamed.reason == case.code
    assert streamed.text == case.text
    assert streamed.messages[0].WhichOneof("event") == "started"
    assert streamed.finished is None


@pytest.mark.parametrize(
    "first",
    [
        pytest.param([up.refusal(500)], id="500"),
        pytest.param([up.refusal(503)], id="503"),
        pytest.param([up.refusal(429)], id="429"),
        pytest.param([up.reset()], id="reset before the headers"),
        pytest.param([OPEN, up.close()], id="end before the first token"),
    ],
)
async def test_failure_before_the_first_token_is_tried_once_more(first: list[Step]) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.script(*first)
        upstream.script(*up.answer("Hi", usage=(1, 2)))
        streamed = await engine.stream()
    assert streamed.text == "Hi"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([up.refusal(401)], id="401"),
        pytest.param([up.refusal(429, headers={"Retry-After": "60"})], id="a long pause asked for"),
        pytest.param([*HI, up.reset()], id="after the first token"),
    ],
)
async def test_failure_that_a_second_try_cannot_mend_is_told_at_once(steps: list[Step]) -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.script(*steps)
        streamed = await engine.stream()
    assert streamed.error is not None
    assert len(upstream.requests) == 1


async def test_second_failure_is_the_last() -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.default(up.refusal(503))
        streamed = await engine.stream()
    assert streamed.reason == "UPSTREAM_UNAVAILABLE"
    assert len(upstream.requests) == 2


async def test_deltas_are_passed_on_one_by_one_as_they_come() -> None:
    gates = [up.Signal() for _ in range(5)]
    deltas = ["One", " two", " three", " four", " five"]
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        upstream.script(OPEN, up.gated(gates, deltas), up.finish(), up.done())
        call = engine.stub.ChatImage(request())
        first = await call.read()
        assert isinstance(first, chat_pb2.ChatImageResponse)
        assert first.WhichOneof("event") == "started"
        for number, (opening, delta) in enumerate(zip(gates, deltas, strict=True), start=1):
            opening.set()
            message = await call.read()
            assert isinstance(message, chat_pb2.ChatImageResponse)
            assert (message.sequence, message.text_delta.text) == (number, delta)
        last = await call.read()
        assert isinstance(last, chat_pb2.ChatImageResponse)
        assert last.sequence == 6


async def test_connection_is_used_again_for_the_next_answer() -> None:
    async with up.Upstream() as upstream, running_engine(upstream) as engine:
        for _ in range(3):
            await engine.stream()
        assert len({asked.opened for asked in upstream.requests}) == 1


async def test_model_that_does_not_stop_by_itself_is_stopped_at_a_mebibyte(upstream: up.Upstream) -> None:
    upstream.default(OPEN, *[up.chunk("so " * 10_000)] * 50, up.silence())
    async with running_engine(upstream) as engine:
        streamed = await engine.stream()
        assert streamed.finished is not None
        assert streamed.finished.finish_reason == chat_pb2.FINISH_REASON_LENGTH
        assert streamed.finished.usage.estimated
        assert 1024 * 1024 < len(streamed.text) < 1.5 * 1024 * 1024
        await upstream.requests[0].closed.wait()

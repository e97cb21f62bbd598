"""Whatever breaks on the way, the answer is whole at the end, and the model was asked once."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import studyai_client as sa
from studyai_client import Backoff, StudyAI
from tests import upstream as up
from tests.clients.conftest import QUICK, Wire
from tests.clients.proxy import running_proxy
from tests.end_to_end.conftest import WORKSHEET
from tests.processes import free_port, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.end_to_end.conftest import Service

DELTAS = ["One", " two", " three", " 四", " five."]
TEXT = "".join(DELTAS)


def gated_answer(service: Service) -> list[up.Signal]:
    gates = [up.Signal() for _ in DELTAS]
    service.upstream.script(up.stream_headers(), up.gated(gates, DELTAS), up.finish(), up.usage(30, 20), up.done())
    return gates


def opening(gates: list[up.Signal], then: Callable[[str], None]) -> Callable[[sa.Event], None]:
    """Lets out a delta after each event, and tells of the text that each delta brought."""
    remaining = iter(gates)

    def seen(event: sa.Event) -> None:
        if isinstance(event, sa.Delta):
            then(event.text)
        if gate := next(remaining, None):
            gate.set()

    return seen


def test_connection_cut_after_every_delta_ends_in_the_whole_answer(service: Service, wire: Wire) -> None:
    gates, pieces = gated_answer(service), list[str]()
    port = service.gateway.port if wire.scheme == "http" else service.engine.port
    with running_proxy(port) as proxy:

        def cut(text: str) -> None:
            pieces.append(text)
            proxy.cut()

        answer = wire.ask(f"{wire.scheme}://127.0.0.1:{proxy.port}", WORKSHEET, "x?", seen=opening(gates, cut))
        assert proxy.connections >= len(DELTAS)
    assert pieces == DELTAS
    assert answer.text == TEXT
    assert answer.usage.total_tokens == 50
    assert len(service.upstream.requests) == 1


@pytest.mark.parametrize("limit", range(0, 1600, 80))
def test_reply_cut_at_any_byte_ends_in_the_whole_answer(service: Service, limit: int) -> None:
    service.upstream.default(*up.answer(*DELTAS))
    with ExitStack() as stack:
        proxy = stack.enter_context(running_proxy(service.gateway.port, lambda number, _: None if number else limit))
        studyai = stack.enter_context(StudyAI(f"http://127.0.0.1:{proxy.port}", backoff=QUICK))
        events = list(studyai.ask(WORKSHEET, "x?"))
    assert [type(event) for event in (events[0], events[-1])] == [sa.Started, sa.Finished]
    assert "".join(event.text for event in events if isinstance(event, sa.Delta)) == TEXT
    assert len(service.upstream.requests) == 1


@pytest.mark.parametrize("client", ["sync", "async"])
def test_gateway_killed_and_restarted_in_mid_answer_ends_in_the_whole_answer(service: Service, client: str) -> None:
    gates, port = gated_answer(service), free_port()
    with ExitStack() as gateways:
        first = gateways.enter_context(running_gateway_process(service.engine, port=port))

        def restart(text: str) -> None:
            if text == DELTAS[1]:
                first.stop(signal.SIGKILL)
                gateways.enter_context(running_gateway_process(service.engine, port=port))

        answer = Wire(client, "http").ask(f"http://127.0.0.1:{port}", WORKSHEET, "x?", seen=opening(gates, restart))
    assert answer.text == TEXT
    assert len(service.upstream.requests) == 1


@pytest.mark.parametrize("wire", [Wire("sync", "http"), Wire("async", "grpc")], ids=["http", "grpc"])
def test_engine_that_forgot_the_answer_is_asked_for_another(service: Service, wire: Wire) -> None:
    gates, port, events = gated_answer(service), free_port(), list[sa.Event]()
    with ExitStack() as running:
        first = running.enter_context(running_engine_process(service.upstream.base_url, port))
        gateway = running.enter_context(running_gateway_process(first))

        def restart(text: str) -> None:
            if text == DELTAS[1]:
                first.stop(signal.SIGKILL)
                running.enter_context(running_engine_process(service.upstream.base_url, port))

        def seen(event: sa.Event) -> None:
            events.append(event)
            opens(event)

        opens = opening(gates[:2], restart)
        where = gateway.port if wire.scheme == "http" else port
        url = f"{wire.scheme}://127.0.0.1:{where}"
        answer = wire.ask(url, WORKSHEET, "x?", seen=seen, backoff=Backoff(first_delay=0.02))
    begun = [event for event in events if isinstance(event, sa.Started)]
    assert len({event.answer_id for event in begun}) == 2
    assert (answer.text, answer.answer_id) == ("Hello there.", begun[1].answer_id)
    assert len(service.upstream.requests) == 2


def test_engines_that_forget_every_answer_are_asked_three_times() -> None:
    start = {"type": "start", "timestamp": "2025-10-07T10:30:00Z", "model": "m", "session_id": "s"}
    gone = {"success": False, "error": "There is no such answer.", "code": "ANSWER_NOT_FOUND", "retryable": False}
    with up.running_upstream() as server:
        for number in range(3):
            told = json.dumps({**start, "answer_id": f"a{number}"})
            server.script(up.stream_headers(), up.raw(f"id: 0\ndata: {told}\n\n".encode()), up.reset())
            server.script(up.reply(404, gone))
        with (
            StudyAI(server.base_url.removesuffix("/v1"), backoff=QUICK) as studyai,
            pytest.raises(sa.AnswerNotFoundError) as failed,
        ):
            studyai.ask(WORKSHEET, "x?").read()
        asked = [request for request in server.requests if request.path == "/api/ai/chat-image-stream"]
    assert (len(asked), len({request.headers["idempotency-key"] for request in asked})) == (3, 1)
    assert failed.value.answer_id == "a2"


def cut_streams(_number: int, first: bytes) -> int | None:
    """What a proxy does that lets no stream through: an event, and no more."""
    return first.find(b"\r\n\r\n") + 6 if b"text/event-stream" in first else None


@pytest.mark.parametrize("client", ["sync", "async"])
def test_fallback_answers_where_every_stream_is_cut(service: Service, client: str) -> None:
    failures: list[str] = []
    with running_proxy(service.gateway.port, cut_streams) as proxy:
        answer = Wire(client, "http").ask(
            f"http://127.0.0.1:{proxy.port}", WORKSHEET, "x?", on_retry=lambda error, _: failures.append(error.code)
        )
    assert answer.text == "Hello there."
    assert failures == ["CONNECTION_LOST"] * 3
    assert len(service.upstream.requests) == 1


@pytest.mark.parametrize("client", ["sync", "async"])
def test_fallback_answers_at_once_where_something_else_comes_in_place_of_a_stream(client: str) -> None:
    page = up.html(200)
    reply = {
        "success": True,
        "response": "Whole.",
        "processing_time_ms": 5,
        "tokens_used": 3,
        "image_analyzed": True,
        "error": None,
        "model": "m",
        "finish_reason": "stop",
        "answer_id": "a1",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "estimated": True},
    }
    with up.running_upstream() as server:
        server.script(page)
        server.script(up.reply(200, reply))
        answer = Wire(client, "http").ask(server.base_url.removesuffix("/v1"), WORKSHEET, "x?")
        stream, fallback = server.requests
    assert (answer.text, answer.usage.estimated) == ("Whole.", True)
    assert [stream.path, fallback.path] == ["/api/ai/chat-image-stream", "/api/ai/chat-image"]
    assert stream.headers["idempotency-key"] == fallback.headers["idempotency-key"]


def refused(code: str, status: int, after: str | None = None) -> up.steps.Step:
    members: dict[str, object] = {"success": False, "error": "Busy.", "code": code, "retryable": True}
    return up.reply(status, members | {"request_id": "r1"}, {"retry-after": after} if after else {})


def test_service_that_is_full_is_asked_again_when_it_says() -> None:
    waits: list[float] = []
    with up.running_upstream() as server:
        server.default(refused("OVERLOADED", 503, "1"))
        with (
            StudyAI(
                server.base_url.removesuffix("/v1"),
                backoff=Backoff(attempts=1, first_delay=0.01),
                on_retry=lambda _, pause: waits.append(pause),
            ) as studyai,
            pytest.raises(sa.OverloadedError) as failed,
        ):
            studyai.complete(WORKSHEET, "x?")
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert waits == [1.0]
    assert (failed.value.retry_after, failed.value.request_id) == (1.0, "r1")


def test_service_that_asks_for_a_long_pause_is_not_waited_for() -> None:
    with up.running_upstream() as server:
        server.default(refused("RATE_LIMITED", 429, "3600"))
        with StudyAI(server.base_url.removesuffix("/v1")) as studyai, pytest.raises(sa.RateLimitedError) as failed:
            studyai.ask(WORKSHEET, "x?").read()
        assert len(server.requests) == 1
    assert failed.value.retry_after == 3600


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (up.html(404), sa.ProtocolError),
        (up.html(502), sa.ConnectionFailedError),
        (up.reply(200, {"hello": "world"}), sa.ProtocolError),
        (refused("A_NEW_CODE", 500), sa.StudyAIError),
    ],
)
def test_what_is_no_answer_is_told_as_what_it_is(script: up.steps.Step, error: type[sa.StudyAIError]) -> None:
    with up.running_upstream() as server:
        server.default(script)
        with (
            StudyAI(server.base_url.removesuffix("/v1"), backoff=Backoff(attempts=0)) as studyai,
            pytest.raises(error) as failed,
        ):
            studyai.complete(WORKSHEET, "x?")
    assert type(failed.value) is error


def test_stream_that_is_cut_after_telling_the_same_again_is_given_up_on() -> None:
    event = {"type": "start", "timestamp": "2025-10-07T10:30:00Z", "model": "m", "answer_id": "a", "session_id": "s"}
    start = up.raw(f"id: 0\ndata: {json.dumps(event)}\n\n".encode())
    with up.running_upstream() as server:
        server.default(up.stream_headers(), start, up.reset())
        with (
            StudyAI(server.base_url.removesuffix("/v1"), backoff=Backoff(attempts=5, first_delay=0.01)) as studyai,
            pytest.raises(sa.ConnectionLostError) as failed,
        ):
            studyai.resume("a").read()
        assert len(server.requests) == 1 + 5
    assert failed.value.answer_id == "a"

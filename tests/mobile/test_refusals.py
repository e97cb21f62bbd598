"""What an app on a phone gets where the service refuses, fails, or does not answer; and where no stream comes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.mobile.conftest import held
from tests.processes import free_port, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Service
    from tests.mobile.conftest import Client, Told

START: Told = {"type": "start", "timestamp": "2025-10-07T10:30:00Z", "model": "m", "answer_id": "a1", "session_id": "s"}
END: Told = {
    "type": "end",
    "content": "Hi.",
    "finish_reason": "stop",
    "usage": {"total_tokens": 3},
    "processing_time_ms": 1,
}
WHOLE: Told = {"success": True, "response": "Whole.", "model": "m", "finish_reason": "stop", "answer_id": "a1"}


@pytest.fixture
def scripted() -> Iterator[up.Upstream]:
    """A server that says what a test wants in the service's place."""
    with up.running_upstream() as server:
        yield server


def url(server: up.Upstream) -> str:
    return server.base_url.removesuffix("/v1")


def refused(status: int, code: str, after: str | None = None, *, retryable: bool = True) -> up.steps.Step:
    members: Told = {"success": False, "error": "No.", "code": code, "retryable": retryable}
    more = {"request_id": "r1", "response": "Please wait."}
    return up.reply(status, members | more, {"retry-after": after} if after else {})


def event(members: Told, number: int) -> bytes:
    return f"id: {number}\ndata: {json.dumps(members)}\n\n".encode()


def test_service_that_is_full_is_asked_again_when_it_says(scripted: up.Upstream, client: Client) -> None:
    scripted.script(refused(503, "OVERLOADED", "1"))
    scripted.script(up.stream_headers(), up.raw(event(START, 0)), up.raw(event(END | {"content": ""}, 1)))
    begun = time.monotonic()
    told = client.done("ask", url(scripted))
    assert time.monotonic() - begun > 1
    assert told[-1]["what"] == "finished"
    assert len({request.headers["idempotency-key"] for request in scripted.requests}) == 1


def test_full_engine_answers_once_it_has_room(service: Service, client: Client) -> None:
    room = held(service, "First", ".")
    with (
        running_engine_process(service.upstream.base_url, MAX_CONCURRENT_ANSWERS="1") as engine,
        running_gateway_process(engine) as gateway,
    ):
        refusals = 0

        def passed(_number: int, first: bytes) -> None:
            nonlocal refusals
            refusals += b"OVERLOADED" in first
            room.set()

        with (
            client.doing("ask", f"http://127.0.0.1:{gateway.port}") as first,
            running_proxy(gateway.port, passed) as proxy,
        ):
            events = iter(first)
            next(events)
            told = client.done("ask", f"http://127.0.0.1:{proxy.port}", key="another", longest_delay_ms=5000)
            assert list(events)[-1]["text"] == "First."
    assert refusals == 1
    assert told[-1]["text"] == "Hello there."


def test_long_pause_is_left_to_the_student(scripted: up.Upstream, client: Client) -> None:
    scripted.default(refused(429, "RATE_LIMITED", "3600"))
    (failed,) = client.done("ask", url(scripted))
    assert (failed["code"], failed["retryable"], failed["retry_after"]) == ("RATE_LIMITED", True, 3_600_000)
    assert (failed["response"], failed["request_id"]) == ("Please wait.", "r1")
    assert len(scripted.requests) == 1


def test_picture_that_is_none_is_refused_with_a_sentence_for_the_student(service: Service, client: Client) -> None:
    (failed,) = client.done("ask", service.url, image="bm8=")
    assert (failed["code"], failed["retryable"]) == ("IMAGE_UNREADABLE", False)
    assert failed["response"].startswith("I could not read that picture.")
    assert service.upstream.requests == []


def test_picture_that_is_too_large_is_not_sent(scripted: up.Upstream, client: Client) -> None:
    (failed,) = client.done("ask", url(scripted), image="A" * 3 * 1024 * 1024)
    assert (failed["code"], failed["retryable"]) == ("PAYLOAD_TOO_LARGE", False)
    assert scripted.requests == []


def test_failure_of_the_model_is_told_and_the_same_key_asks_anew(service: Service, client: Client) -> None:
    key = f"once-{client.name}"
    service.upstream.script(up.stream_headers(), up.chunk("Half"), up.reset())
    told = client.done("ask", service.url, key=key)
    assert (told[-1]["code"], told[-1]["retryable"]) == ("UPSTREAM_TRUNCATED", True)
    assert len(service.upstream.requests) == 1
    assert client.done("ask", service.url, key=key)[-1]["text"] == "Hello there."
    assert client.done("ask", service.url, key=key)[-1]["text"] == "Hello there."
    assert len(service.upstream.requests) == 2


def test_service_that_cannot_be_reached_is_given_up_after_the_attempts(client: Client) -> None:
    (failed,) = client.done("ask", f"http://127.0.0.1:{free_port()}", attempts=3)
    assert (failed["code"], failed["retryable"]) == ("CONNECTION_FAILED", True)


def test_network_that_is_back_ends_the_pause(client: Client) -> None:
    if client.name == "swift":
        pytest.skip("URLSession waits for the network by itself, and not in Foundation for Linux")
    nowhere, begun = f"http://127.0.0.1:{free_port()}", time.monotonic()
    pause = {"first_delay_ms": 60_000, "longest_delay_ms": 60_000}
    (failed,) = client.done("ask", nowhere, attempts=1, network_back=True, **pause)
    assert failed["code"] == "CONNECTION_FAILED"
    assert time.monotonic() - begun < 30


def test_engines_that_forget_every_answer_are_asked_three_times(scripted: up.Upstream, client: Client) -> None:
    for number in range(3):
        scripted.script(up.stream_headers(), up.raw(event(START | {"answer_id": f"a{number}"}, 0)), up.reset())
        scripted.script(refused(404, "ANSWER_NOT_FOUND", retryable=False))
    told = client.done("ask", url(scripted))
    asked = [request for request in scripted.requests if request.path == "/api/ai/chat-image-stream"]
    assert (len(asked), len({request.headers["idempotency-key"] for request in asked})) == (3, 1)
    assert told[-1]["code"] == "ANSWER_NOT_FOUND"


def test_rest_comes_in_one_reply_where_streams_are_cut(service: Service, client: Client) -> None:
    more = held(service, "Half", " and half.")

    def cut_streams(number: int, first: bytes) -> int | None:
        if number and b"text/event-stream" in first:
            return first.find(b"\r\n\r\n") + 6
        return None

    with (
        running_proxy(service.gateway.port, cut_streams) as proxy,
        client.doing("ask", f"http://127.0.0.1:{proxy.port}") as driver,
    ):
        events = iter(driver)
        told = [next(events), next(events)]
        proxy.cut()
        more.set()
        told += events
    assert [one.get("delta") for one in told[1:-1]] == ["Half", " and half."]
    assert (told[-1]["text"], told[-1]["tokens"]) == ("Half and half.", 50)
    assert len(service.upstream.requests) == 1


def test_answer_comes_in_one_reply_where_something_else_comes_in_place_of_a_stream(
    scripted: up.Upstream, client: Client
) -> None:
    scripted.script(up.html(200))
    scripted.script(up.reply(200, WHOLE | {"usage": {"total_tokens": 3}}))
    told = client.done("ask", url(scripted), session_id="s-1")
    assert [request.path for request in scripted.requests] == ["/api/ai/chat-image-stream", "/api/ai/chat-image"]
    assert len({request.headers["idempotency-key"] for request in scripted.requests}) == 1
    assert (told[0]["session_id"], told[-1]["text"]) == ("s-1", "Whole.")


def test_pages_of_a_proxy_that_does_not_reach_the_service_are_passed_over(
    scripted: up.Upstream, client: Client
) -> None:
    scripted.script(up.html(502))
    scripted.script(up.stream_headers(), up.raw(event(START, 0)), up.raw(event(END | {"content": ""}, 1)))
    assert client.done("ask", url(scripted))[-1]["what"] == "finished"


def test_stream_of_another_dialect_is_read_by_the_rules(scripted: up.Upstream, client: Client) -> None:
    """CRLF, comments, a field that is not known, data in two lines, no space, an event that is not known."""
    head = b"id: 1\r\n:note\r\nretry: 3\r\nevent: message\r\nnew: 1\r\n"
    content = head + b'data:{"type":"content",\r\ndata: "delta":"Hi.","new":[]}\r\n\r\n'
    news = event({"type": "news", "id": "n"}, 2)
    scripted.script(
        up.stream_headers(), up.raw(event(START, 0)), up.pieces(content), up.raw(news), up.raw(event(END, 3))
    )
    told = client.done("ask", url(scripted))
    assert [one["what"] for one in told] == ["started", "text", "finished"]
    assert told[-1]["text"] == "Hi."


def test_what_was_told_is_not_told_again(scripted: up.Upstream, client: Client) -> None:
    content = event({"type": "content", "delta": "Hi."}, 1)
    begun = up.raw(event(START, 0) + content)
    scripted.script(up.stream_headers(), begun, up.close())
    scripted.script(up.stream_headers(), begun, up.raw(event(END, 2)))
    told = client.done("ask", url(scripted), student_id="mia 7")
    assert [one["what"] for one in told] == ["started", "text", "finished"]
    back = scripted.requests[1]
    assert set(back.path.partition("?")[2].split("&")) == {"accumulate=false", "student_id=mia%207"}
    assert back.path.startswith("/api/ai/answers/a1?")
    assert back.headers["last-event-id"] == "1"


def test_event_that_is_none_of_the_services_is_told_as_such(scripted: up.Upstream, client: Client) -> None:
    scripted.default(up.stream_headers(), up.raw(event({"type": "start"}, 0)))
    (failed,) = client.done("ask", url(scripted))
    assert (failed["code"], failed["retryable"]) == ("PROTOCOL", False)
    assert len(scripted.requests) == 1


def test_code_of_a_newer_service_is_unknown_and_keeps_the_rest(scripted: up.Upstream, client: Client) -> None:
    scripted.default(refused(500, "A_NEW_CODE"))
    (failed,) = client.done("ask", url(scripted))
    assert (failed["code"], failed["retryable"], failed["message"]) == ("UNKNOWN", True, "No.")


def test_token_goes_with_each_request(scripted: up.Upstream, client: Client) -> None:
    scripted.script(up.stream_headers(), up.raw(event(START, 0)), up.reset())
    scripted.script(up.stream_headers(), up.raw(event(END | {"content": ""}, 1)))
    client.done("ask", url(scripted), token="t-1")  # noqa: S106 - opens nothing
    assert [request.headers["authorization"] for request in scripted.requests] == ["Bearer t-1"] * 2


def test_example_of_the_guide_offers_another_try(scripted: up.Upstream, client: Client) -> None:
    scripted.default(refused(429, "RATE_LIMITED", "3600"))
    shown, offered = client.done("show", url(scripted), key="k-1")
    assert (shown["text"], offered["key"]) == ("Please wait.", "k-1")

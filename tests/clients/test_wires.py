"""The four clients give the same answers and the same failures."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

import studyai_client as sa
from studyai_client import AsyncStudyAI, StudyAI
from tests import upstream as up
from tests.clients.conftest import DELTAS, QUICK, TEXT
from tests.end_to_end.conftest import WORKSHEET

if TYPE_CHECKING:
    from tests.clients.conftest import Wire
    from tests.end_to_end.conftest import Service


def test_events_come_one_by_one_and_add_up_to_the_answer(service: Service, wire: Wire) -> None:
    gates = [up.Signal() for _ in DELTAS]
    service.upstream.script(
        up.stream_headers(), up.gated(gates, DELTAS), up.finish("length"), up.usage(30, 20), up.done()
    )
    remaining, events = iter(gates), list[sa.Event]()

    def seen(event: sa.Event) -> None:
        events.append(event)
        if gate := next(remaining, None):
            gate.set()

    answer = wire.ask(wire.url(service), WORKSHEET, "What is x?", seen=seen)
    assert isinstance(events[0], sa.Started)
    assert events[0].started_at is not None
    assert events[0].started_at.tzinfo is not None
    assert [event.text for event in events[1:-1] if isinstance(event, sa.Delta)] == DELTAS
    assert isinstance(events[-1], sa.Finished)
    assert answer.text == events[-1].text == TEXT
    assert answer.finish_reason == "length"
    assert answer.usage == sa.Usage(prompt_tokens=30, completion_tokens=20, total_tokens=50)
    assert answer.model == "gpt-5.4-mini"
    assert answer.elapsed.total_seconds() > 0
    assert len(service.upstream.requests) == 1


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_stream_and_fallback_tell_the_same_on_all_wires(service: Service, wire: Wire, reason: str) -> None:
    service.upstream.default(*up.answer(*DELTAS, usage=(30, 20), finish=reason))
    url = wire.url(service)
    streamed = wire.ask(url, WORKSHEET, "What is x?")
    whole = wire.complete(url, WORKSHEET, "What is x?")
    assert without_names(whole) == without_names(streamed)
    assert (streamed.text, streamed.finish_reason, streamed.usage.total_tokens) == (TEXT, reason, 50)


def without_names(answer: sa.Answer) -> sa.Answer:
    """What two answers to one question have in common, whichever way they came."""
    return replace(answer, answer_id="", session_id=None, started_at=None, elapsed=timedelta())


def test_failure_of_the_model_is_told_with_the_text_before_it(service: Service, wire: Wire) -> None:
    service.upstream.script(*up.answer("Half", finish=None, usage=None, done=False))
    with pytest.raises(sa.UpstreamTruncatedError) as failed:
        wire.ask(wire.url(service), WORKSHEET, "What is x?")
    error = failed.value
    assert (error.code, error.retryable, error.partial_text) == ("UPSTREAM_TRUNCATED", True, "Half")
    assert error.request_id
    assert error.answer_id
    assert len(service.upstream.requests) == 1


def test_model_that_is_busy_says_when_to_come_back(service: Service, wire: Wire) -> None:
    service.upstream.default(up.refusal(429, headers={"retry-after": "7"}))
    with pytest.raises(sa.UpstreamRateLimitedError) as failed:
        wire.ask(wire.url(service), WORKSHEET, "What is x?")
    assert failed.value.retry_after == pytest.approx(7, abs=1)
    assert failed.value.partial_text == ""


def test_unreadable_picture_of_the_right_type_is_the_services_to_refuse(service: Service, wire: Wire) -> None:
    with pytest.raises(sa.ImageUnreadableError, match="image"):
        wire.ask(wire.url(service), b"\xff\xd8\xff and no more", "What is x?")
    with pytest.raises(sa.ImageUnreadableError, match="image"):
        wire.complete(wire.url(service), b"\xff\xd8\xff and no more", "What is x?")
    assert service.upstream.requests == []


def test_deadline_ends_the_answer_and_stops_the_model(service: Service, wire: Wire) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
    with pytest.raises(sa.DeadlineExceededError) as failed:
        # On a busy machine 0.25 s were over before the first delta had come.
        wire.ask(wire.url(service), WORKSHEET, "What is x?", timeout=1)
    assert failed.value.partial_text == "Hi"


def test_resume_replays_an_ended_answer_and_unknown_ones_are_not_found(service: Service, wire: Wire) -> None:
    url = wire.url(service)
    answer = wire.ask(url, WORKSHEET, "What is x?", student_id="mia")
    with StudyAI(url, student_id="mia") as studyai:
        events = list(studyai.resume(answer.answer_id))
        assert events[-1] == sa.Finished(
            text=answer.text, finish_reason="stop", usage=answer.usage, elapsed=answer.elapsed
        )
        assert isinstance(events[0], sa.Started)
        with pytest.raises(sa.AnswerNotFoundError):
            list(studyai.resume(answer.answer_id, student_id="noah"))
        with pytest.raises(sa.AnswerNotFoundError):
            studyai.stop("0" * 32)


@pytest.mark.parametrize("held", [bytes, bytearray, memoryview, io.BytesIO])
def test_picture_in_memory_is_taken_however_it_is_held(service: Service, held: Any) -> None:
    with StudyAI(service.url) as studyai:
        assert studyai.complete(held(WORKSHEET.read_bytes()), "What is x?").text
    assert len(service.upstream.requests) == 1


def test_callers_log_has_no_students_id_and_no_password(
    service: Service, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    url = wire.url(service).replace("http://", "http://me:pa55word@")
    answer = wire.ask(url, WORKSHEET, "What is x?", student_id="mia-7")
    with StudyAI(url, student_id="mia-7") as studyai:
        list(studyai.resume(answer.answer_id))
        studyai.stop(answer.answer_id)
    assert wire.scheme == "grpc" or f"{answer.answer_id}?accumulate=false" in caplog.text
    assert "mia-7" not in caplog.text
    assert "pa55word" not in caplog.text


def test_stop_ends_the_answer_with_the_text_so_far(service: Service, wire: Wire) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    url, started = wire.url(service), list[sa.Started]()

    def seen(event: sa.Event) -> None:
        if isinstance(event, sa.Started):
            started.append(event)
        if isinstance(event, sa.Delta):
            with StudyAI(url) as other:
                other.stop(started[0].answer_id)

    answer = wire.ask(url, WORKSHEET, "What is x?", seen=seen)
    assert (answer.text, answer.finish_reason) == ("Some", "stopped")
    service.upstream.requests[0].closed.block()


def test_follow_up_in_a_session_needs_no_picture(service: Service, wire: Wire) -> None:
    url, session = wire.url(service), f"chat-{wire.client}-{wire.scheme}"
    with StudyAI(url, student_id="mia") as studyai:
        first = studyai.complete(WORKSHEET, "What is x?", session_id=session, subject="math")
        second = studyai.ask(None, "And y?", session_id=session).read()
    assert second.session_id == session
    assert first.answer_id != second.answer_id
    assert len(service.upstream.requests[1].json["messages"]) > len(service.upstream.requests[0].json["messages"])


def test_nobody_there_is_told_after_the_last_attempt(wire: Wire) -> None:
    failures: list[str] = []
    with pytest.raises(sa.ConnectionFailedError) as failed:
        wire.ask(
            f"{wire.scheme}://127.0.0.1:9",
            WORKSHEET,
            "x?",
            backoff=sa.Backoff(attempts=2, first_delay=0.02),
            on_retry=lambda e, _: failures.append(e.code),
        )
    assert failed.value.retryable
    assert failed.value.message == "127.0.0.1:9 cannot be reached: connection refused."
    assert failures == ["CONNECTION_FAILED"] * 2


def test_host_that_there_is_not_is_told_at_once(wire: Wire) -> None:
    failures: list[str] = []
    url = f"{wire.scheme}://nowhere.invalid:3000"
    with pytest.raises(sa.ConnectionFailedError) as failed:
        wire.ask(url, WORKSHEET, "x?", on_retry=lambda e, _: failures.append(e.code))
    assert failed.value.message == "nowhere.invalid:3000 cannot be reached: there is no such host."
    assert failures == []


@pytest.mark.parametrize(
    ("picture", "prompt", "error"),
    [
        (b"BM no picture", "x?", sa.ImageUnreadableError),
        (b"", "x?", sa.ImageUnreadableError),
        (b"\xff\xd8\xff" + bytes(3 * 1024 * 1024), "x?", sa.PayloadTooLargeError),
        (io.BytesIO(b"\xff\xd8\xff" + bytes(3 * 1024 * 1024)), "x?", sa.PayloadTooLargeError),
        (b"\xff\xd8\xff", "  ", sa.InvalidRequestError),
        (b"\xff\xd8\xff", "x" * 4001, sa.InvalidRequestError),
        (b"\xff\xd8\xff", "caf\udce9", sa.InvalidRequestError),  # an argument in Latin-1 comes so in a UTF-8 locale
        ("missing.jpg", "x?", FileNotFoundError),
    ],
)
def test_question_that_would_be_refused_is_not_sent(picture: sa.Picture, prompt: str, error: type[Exception]) -> None:
    with StudyAI("http://127.0.0.1:9") as studyai, pytest.raises(error):
        studyai.ask(picture, prompt)


@pytest.mark.parametrize("client", [StudyAI, AsyncStudyAI])
async def test_option_that_there_is_not_is_refused(client: type[StudyAI | AsyncStudyAI]) -> None:
    """Else the question would be asked without what was meant."""
    asking, wrong = client("http://127.0.0.1:9"), cast("Any", {"session": "tuesday"})
    with pytest.raises(TypeError, match="session: there are key, session_id, student_id, subject, timeout"):
        asking.ask(WORKSHEET, "x?", **wrong)
    with pytest.raises(TypeError, match="session: there are student_id, timeout"):
        asking.resume("a1", **wrong)


def test_picture_that_only_base64_makes_too_large_goes_over_grpc_alone(service: Service) -> None:
    picture = WORKSHEET.read_bytes() + bytes(2_500_000)
    with StudyAI(service.url, backoff=QUICK) as http, pytest.raises(sa.PayloadTooLargeError):
        http.ask(picture, "x?").read()
    with StudyAI(f"grpc://127.0.0.1:{service.engine.port}") as grpc:
        assert grpc.ask(io.BytesIO(picture), "x?").read().text == "Hello there."


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "ftp://localhost",
        "http://",
        "grpc:/localhost",
        "http://[::1",
        "http://localhost:99999",
        "grpc://localhost:port",
        "http://a..b:3000",
        "http://256.0.0.1:3000",
        f"grpcs://{'a' * 64}.example",
        "http://local host",
    ],
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        StudyAI(url)

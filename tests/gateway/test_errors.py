"""Every failure of the engine becomes the documented error: a status before the stream begins, an event after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest

from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.fake_engine import FINISHED, STARTED, FakeEngine, failure, fake_engine
from tests.gateway.wire import FALLBACK, STREAM, event_data, events_in

if TYPE_CHECKING:
    from tests.gateway.fake_engine import EngineCall

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYED = {"idempotency_key": "whatever"}
"""With a key a question goes to the engine even if that has just said that it is full."""

Status = grpc.StatusCode
OWN_WORDS = "the engine's own words"


class Row(NamedTuple):
    code: str
    http: int
    grpc: Status
    retryable: bool
    told_by_engine: bool = False

    @property
    def fallback(self) -> str | None:
        """What a stream's client is told to try: a student's limits are of both routes."""
        return FALLBACK if self.retryable and self.code != "RATE_LIMITED" else None


TABLE = [
    Row("INVALID_REQUEST", 400, Status.INVALID_ARGUMENT, False, True),
    Row("IMAGE_UNREADABLE", 422, Status.INVALID_ARGUMENT, False, True),
    Row("PAYLOAD_TOO_LARGE", 413, Status.RESOURCE_EXHAUSTED, False, True),
    Row("IDEMPOTENCY_KEY_REUSED", 422, Status.INVALID_ARGUMENT, False, True),
    Row("UNAUTHENTICATED", 401, Status.UNAUTHENTICATED, False),
    Row("FORBIDDEN", 403, Status.PERMISSION_DENIED, False),
    Row("ANSWER_NOT_FOUND", 404, Status.NOT_FOUND, False),
    Row("RATE_LIMITED", 429, Status.RESOURCE_EXHAUSTED, True),
    Row("AUTH_UNAVAILABLE", 503, Status.UNAVAILABLE, True),
    Row("OVERLOADED", 503, Status.UNAVAILABLE, True),
    Row("DRAINING", 503, Status.UNAVAILABLE, True),
    Row("ENGINE_UNAVAILABLE", 503, Status.UNAVAILABLE, True),
    Row("UPSTREAM_RATE_LIMITED", 503, Status.UNAVAILABLE, True),
    Row("UPSTREAM_UNAVAILABLE", 503, Status.UNAVAILABLE, True),
    Row("UPSTREAM_AUTH", 503, Status.UNAVAILABLE, False),
    Row("UPSTREAM_REJECTED", 422, Status.FAILED_PRECONDITION, False),
    Row("UPSTREAM_TRUNCATED", 502, Status.UNAVAILABLE, True),
    Row("UPSTREAM_PROTOCOL", 502, Status.UNAVAILABLE, True),
    Row("UPSTREAM_TIMEOUT", 504, Status.DEADLINE_EXCEEDED, True),
    Row("DEADLINE_EXCEEDED", 504, Status.DEADLINE_EXCEEDED, True),
    Row("INTERNAL", 500, Status.INTERNAL, True),
]
"""The contract's, row by row."""

# UNAUTHENTICATED is for the client's token; the engine's is about the gateway's own, which is not the client's fault.
PASSED_ON = [row for row in TABLE if row.code != "UNAUTHENTICATED"]
every_code = pytest.mark.parametrize("row", PASSED_ON, ids=[row.code for row in PASSED_ON])


@every_code
async def test_failure_before_the_start_is_an_http_status(
    gateway: RunningGateway, engine: FakeEngine, row: Row
) -> None:
    async with gateway.post(STREAM, x_request_id="req-3", **KEYED) as client:
        call = await engine.next_call()
        call.fail(failure(row.grpc, row.code, OWN_WORDS))
        await client.read_head()
        reply = await client.read_json()
    assert client.status == row.http
    assert client.headers["content-type"] == "application/json"
    assert reply.pop("processing_time_ms") >= 0
    assert reply.pop("response")
    assert (reply.pop("error") == OWN_WORDS) is row.told_by_engine
    assert reply.pop("fallback_endpoint", None) == row.fallback
    assert reply == {"success": False, "code": row.code, "retryable": row.retryable, "request_id": "req-3"}


@every_code
async def test_failure_after_the_start_is_an_event(gateway: RunningGateway, engine: FakeEngine, row: Row) -> None:
    async with gateway.post(STREAM, x_request_id="req-4", **KEYED) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await client.read_event()
        call.fail(failure(row.grpc, row.code, OWN_WORDS, retry_after_ms=1500))
        frame = await client.read_body()
    assert client.status == 200
    assert frame.startswith(b"data: ")
    event = event_data(frame)
    assert (event.pop("error") == OWN_WORDS) is row.told_by_engine
    expected: dict[str, Any] = {"type": "error", "code": row.code, "retryable": row.retryable, "partial": False}
    if row.retryable:
        expected["retry_after_ms"] = 1500
    if row.fallback:
        expected["fallback_endpoint"] = row.fallback
    assert event == expected | {"request_id": "req-4"}


@every_code
async def test_failure_on_the_fallback_is_an_http_status(gateway: RunningGateway, engine: FakeEngine, row: Row) -> None:
    async with gateway.post(FALLBACK, **KEYED) as client:
        call = await engine.next_call()
        call.fail(failure(row.grpc, row.code, OWN_WORDS, retry_after_ms=1001))
        await client.read_head()
        reply = await client.read_json()
    assert (client.status, reply["code"], reply["retryable"]) == (row.http, row.code, row.retryable)
    assert client.headers.get("retry-after") == ("2" if row.retryable else None)
    assert "fallback_endpoint" not in reply


@pytest.mark.parametrize("code", ["OVERLOADED", "DRAINING", "ENGINE_UNAVAILABLE", "UPSTREAM_RATE_LIMITED"])
async def test_waiting_is_advised_even_if_the_engine_does_not(
    gateway: RunningGateway, engine: FakeEngine, code: str
) -> None:
    async with gateway.post(STREAM, **KEYED) as client:
        call = await engine.next_call()
        call.fail(failure(Status.UNAVAILABLE, code))
        await client.read_head()
    assert int(client.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("status", "http", "code"),
    [
        (failure(Status.UNAVAILABLE), 503, "ENGINE_UNAVAILABLE"),
        (failure(Status.CANCELLED), 503, "ENGINE_UNAVAILABLE"),
        (failure(Status.UNAUTHENTICATED), 503, "ENGINE_UNAVAILABLE"),
        (failure(Status.UNAUTHENTICATED, "UNAUTHENTICATED"), 503, "ENGINE_UNAVAILABLE"),
        (failure(Status.DEADLINE_EXCEEDED), 504, "DEADLINE_EXCEEDED"),
        (failure(Status.RESOURCE_EXHAUSTED), 500, "INTERNAL"),
        (failure(Status.UNIMPLEMENTED), 500, "INTERNAL"),
        (failure(Status.UNKNOWN), 500, "INTERNAL"),
        (failure(Status.INVALID_ARGUMENT), 500, "INTERNAL"),
        (failure(Status.UNAVAILABLE, "A_NEWER_ENGINES"), 500, "INTERNAL"),
        (failure(Status.UNAVAILABLE, "OVERLOADED", domain="example.com"), 503, "ENGINE_UNAVAILABLE"),
    ],
)
async def test_status_without_the_engines_word_tells_what_it_can(
    gateway: RunningGateway, engine: FakeEngine, status: grpc.Status, http: int, code: str
) -> None:
    async with gateway.post(FALLBACK, **KEYED) as client:
        call = await engine.next_call()
        call.fail(status)
        await client.read_head()
        reply = await client.read_json()
    assert (client.status, reply["code"]) == (http, code)
    assert OWN_WORDS not in str(reply)


@pytest.mark.parametrize(
    ("field", "message", "sentence"),
    [
        ("question.image", "A picture is required.", "base64_image: A picture is required."),
        ("question.prompt", "question.prompt is required.", "prompt is required."),
        ("question.session_id", "The session_id is too long.", "The session_id is too long."),
        ("question.newer", "Is not good.", "question.newer: Is not good."),
    ],
)
async def test_field_at_fault_has_its_http_name(
    gateway: RunningGateway, engine: FakeEngine, field: str, message: str, sentence: str
) -> None:
    async with gateway.post(FALLBACK, **KEYED) as client:
        call = await engine.next_call()
        call.fail(failure(Status.INVALID_ARGUMENT, "INVALID_REQUEST", message, field=field))
        await client.read_head()
        assert (await client.read_json())["error"] == sentence


async def test_error_after_text_is_marked_partial_and_the_text_comes_first(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    async with gateway.post(STREAM, **KEYED) as client:
        call = await engine.next_call()
        await call.start()
        await call.text("Half")
        call.fail(failure(Status.UNAVAILABLE, "UPSTREAM_TRUNCATED"))
        await client.read_head()
        events = events_in(await client.read_body())
    assert [event["type"] for event in events] == ["start", "content", "error"]
    assert events[-1]["partial"] is True


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
async def test_engine_that_stops_without_an_end_is_an_internal_error(
    gateway: RunningGateway, engine: FakeEngine, finished: bool
) -> None:
    async with gateway.post(STREAM, **KEYED) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await client.read_event()
        if finished:
            await call.write(started=STARTED)
        call.close()
        event = event_data(await client.read_body())
    assert (event["type"], event["code"]) == ("error", "INTERNAL")


@pytest.mark.parametrize("first", ["text", "finished", "nothing"])
async def test_engine_that_does_not_begin_with_the_start_is_an_internal_error(
    gateway: RunningGateway, engine: FakeEngine, first: str
) -> None:
    async with gateway.post(STREAM, **KEYED) as client:
        call = await engine.next_call()
        await _begin_with(call, first)
        await client.read_head()
        assert client.status == 500
        assert (await client.read_json())["code"] == "INTERNAL"


async def _begin_with(call: EngineCall, first: str) -> None:
    match first:
        case "text":
            await call.text("This")
        case "finished":
            await call.write(finished=FINISHED)
        case "nothing":
            call.close()


async def test_engine_that_is_down_is_unavailable_and_is_found_again_when_it_is_up() -> None:
    async with fake_engine() as engine:
        port = int(engine.url.rsplit(":", 1)[1])
        url = engine.url
    async with running_gateway(url) as gateway:
        for path in (STREAM, FALLBACK):
            async with gateway.post(path) as client:
                await client.read_head()
                assert (client.status, client.headers["retry-after"]) == (503, "2")
                assert (await client.read_json())["code"] == "ENGINE_UNAVAILABLE"
        async with fake_engine(port) as engine:
            await gateway.until_ready()
            async with gateway.post(FALLBACK) as client:
                call = await engine.next_call()
                call.fail(failure(Status.UNAVAILABLE, "DRAINING"))
                await client.read_head()


async def test_engine_that_dies_amid_the_text_is_unavailable() -> None:
    async with fake_engine() as engine, running_gateway(engine.url) as gateway, gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await call.text("Half")
        await client.read_head()
        await client.read_event()
        await client.read_event()
        await engine.die()
        event = event_data(await client.read_body())
    assert (event["type"], event["code"], event["partial"]) == ("error", "ENGINE_UNAVAILABLE", True)

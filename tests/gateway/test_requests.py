"""What a request may be, and what it is told otherwise."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.gateway.conftest import RunningGateway, gateway_with, running_gateway
from tests.gateway.wire import FALLBACK, PICTURE, STREAM, connect, encoded, question

if TYPE_CHECKING:
    from tests.gateway.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 3 * 1024 * 1024
CANARY = "canary-7f3a"


def without(name: str) -> dict[str, Any]:
    body = question()
    del body[name]
    return body


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"prompt": "\xff"}', "JSON"),
        (b'{"prompt": "\\ud800"}', "JSON"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (without("prompt"), "prompt"),
        (question(prompt=None), "prompt"),
        (question(prompt=""), "prompt"),
        (question(prompt=" \n "), "prompt"),
        (question(prompt=CANARY + "x" * 4000), "prompt"),
        (question(prompt=7), "prompt"),
        (question(prompt=[CANARY]), "prompt"),
        (question(subject=CANARY + "x" * 64), "subject"),
        (question(session_id=CANARY + " "), "session_id"),
        (question(session_id=CANARY + "\n"), "session_id"),
        (question(session_id="x" * 129), "session_id"),
        (question(student_id=CANARY + "/"), "student_id"),
        (question(student_id=7), "student_id"),
        (question(accumulate="yes"), "accumulate"),
        (question(accumulate=1), "accumulate"),
        (question(base64_image=7), "base64_image"),
        (question(base64_image={"data": CANARY}), "base64_image"),
    ],
)
async def test_bad_body_is_refused_and_the_member_named_but_not_quoted(
    gateway: RunningGateway, path: str, body: Any, named: str
) -> None:
    async with gateway.post(path, body) as client:
        await client.read_head()
        reply = await client.read_json()
    assert (client.status, reply["code"], reply["retryable"]) == (400, "INVALID_REQUEST", False)
    assert named in reply["error"]
    assert CANARY not in str(reply)


async def test_all_bad_members_are_named(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, question(prompt="", student_id="?")) as client:
        await client.read_head()
        error = (await client.read_json())["error"]
    assert "prompt: " in error
    assert "student_id: " in error


@pytest.mark.parametrize(
    "image",
    [
        "*",
        "iVBORw0KGgo",
        "iVBORw0KGgo==",
        "iVBORw0KGg==o",
        "iVBO_-==",
        "data:text/plain;base64,aGk=",
        "bild:ä",
        "aGk=\0",
    ],
)
async def test_picture_that_is_not_base64_is_unreadable(gateway: RunningGateway, image: str) -> None:
    async with gateway.post(STREAM, question(base64_image=image)) as client:
        await client.read_head()
        reply = await client.read_json()
    assert (client.status, reply["code"]) == (422, "IMAGE_UNREADABLE")
    assert "base64_image" in reply["error"]
    assert image not in reply["error"]


@pytest.mark.parametrize(
    "image",
    [
        base64.b64encode(PICTURE).decode(),
        base64.encodebytes(PICTURE).decode(),
        base64.encodebytes(PICTURE).decode().replace("\n", "\r\n "),
        "data:image/png;base64," + base64.b64encode(PICTURE).decode(),
        "DATA:image/svg+xml;charset=utf-8;BASE64," + base64.b64encode(PICTURE).decode(),
    ],
    ids=["plain", "line breaks", "CRLF", "data URL", "data URL with parameters"],
)
async def test_picture_reaches_the_engine_as_its_bytes(gateway: RunningGateway, engine: FakeEngine, image: str) -> None:
    async with gateway.post(STREAM, question(base64_image=image)):
        call = await engine.next_call()
        assert call.request.question.image == PICTURE


@pytest.mark.parametrize("body", [without("base64_image"), question(base64_image=None), question(base64_image="")])
async def test_missing_picture_is_for_the_engine_to_judge(
    gateway: RunningGateway, engine: FakeEngine, body: dict[str, Any]
) -> None:
    async with gateway.post(STREAM, body):
        call = await engine.next_call()
        assert call.request.question.image == b""


async def test_absent_and_null_members_have_their_defaults(gateway: RunningGateway, engine: FakeEngine) -> None:
    nulls = dict.fromkeys(("subject", "session_id", "student_id", "accumulate"))
    for body in (question(unknown={"a": 1}), question(**nulls)):
        async with gateway.post(STREAM, body) as client:
            call = await engine.next_call()
            asked = call.request.question
            assert (asked.subject or "general", asked.session_id) == ("general", "")
            assert asked.student_id in ("", "anonymous")
            await call.start()
            await client.read_head()
            await client.read_event()
            await call.text("This")
            assert b'"content":"This"' in await client.read_event()


async def test_longest_allowed_members_are_accepted(gateway: RunningGateway, engine: FakeEngine) -> None:
    body = question(prompt=" " + "é" * 4000 + " ", subject="é" * 64, session_id="a" * 128, student_id="A-z_0.9:" * 16)
    async with gateway.post(STREAM, body):
        call = await engine.next_call()
        assert len(call.request.question.prompt) == 4000


async def test_body_needs_no_content_type(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, question(), content_type="text/plain"):
        await engine.next_call()


def body_of(size: int) -> bytes:
    """A good body of so many bytes."""
    frame = len(encoded({"prompt": "?", "padding": ""}))
    return encoded({"prompt": "?", "padding": "x" * (size - frame)})


async def test_largest_allowed_body_is_accepted(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, body_of(LIMIT)):
        await engine.next_call()


def assert_too_large(status: int, reply: dict[str, Any], actual: float) -> None:
    assert (status, reply["code"], reply["success"], reply["retryable"]) == (413, "PAYLOAD_TOO_LARGE", False, False)
    assert (reply["maxSizeMB"], reply["actualSizeMB"]) == (3, actual)
    assert reply["message"]
    assert reply["response"]


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_body_declared_too_large_is_refused_before_it_comes(gateway: RunningGateway, path: str) -> None:
    async with connect(gateway.port) as client:
        await client.send_head("POST", path, content_length=str(LIMIT + 1024 * 1024), expect="100-continue")
        await client.read_head()
        assert_too_large(client.status, await client.read_json(), 4)


async def test_picture_that_no_engine_takes_is_refused_with_its_size(engine: FakeEngine) -> None:
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n".ljust(4 * 1024 * 1024)).decode()
    async with (
        gateway_with(engine, max_payload_bytes=8_000_000) as gateway,
        gateway.post(STREAM, question(base64_image=picture)) as client,
    ):
        await client.read_head()
        assert_too_large(client.status, await client.read_json(), 4)


async def test_body_is_counted_while_it_comes(gateway: RunningGateway) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with connect(gateway.port) as client:
        await client.send_head("POST", STREAM, transfer_encoding="chunked")
        client.writer.write(chunk * 49)  # one more than the limit, and no end
        await client.read_head()
        assert_too_large(client.status, await client.read_json(), 3.07)


async def test_client_that_sends_all_before_it_reads_can_read_the_413(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    def post(data: Any) -> requests.Response:
        with requests.Session() as session:
            return session.post(gateway.url + STREAM, data=data, timeout=5)

    whole = await asyncio.to_thread(post, b" " * (16 * 1024 * 1024))
    assert_too_large(whole.status_code, whole.json(), 16)
    chunked = await asyncio.to_thread(post, (b" " * 65536 for _ in range(256)))
    assert chunked.status_code == 413


async def test_connection_goes_on_after_a_413(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with connect(gateway.port) as client:
        await client.send("POST", STREAM, b" " * (LIMIT + 1))
        await client.read_head()
        assert client.status == 413
        await client.read_body()
        await client.send("POST", STREAM, encoded(question()))
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert client.status == 200


async def test_limit_is_a_setting(engine: FakeEngine) -> None:
    async with (
        running_gateway(engine.url, max_payload_bytes=1024) as gateway,
        gateway.post(STREAM, b" " * 1025) as client,
    ):
        await client.read_head()
        assert client.status == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing/here", 404), ("GET", STREAM, 405), ("DELETE", FALLBACK, 405), ("POST", "/healthz", 405)],
)
async def test_what_the_router_refuses_is_told_in_the_same_shape(
    gateway: RunningGateway, method: str, path: str, status: int
) -> None:
    async with connect(gateway.port) as client:
        await client.send(method, path)
        await client.read_head()
        reply = await client.read_json()
    assert (client.status, reply["success"], reply["code"]) == (status, False, "INVALID_REQUEST")
    assert ("allow" in client.headers) is (status == 405)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("Idempotency-Key", {"Idempotency_Key": "one", "idempotency_key": "two"}),
        ("X-Request-Timeout-Ms", {"X_Request_Timeout_Ms": "1000", "x_request_timeout_ms": "1000"}),
    ],
)
async def test_header_that_may_come_once_is_refused_by_name_when_it_comes_twice(
    gateway: RunningGateway, name: str, lines: dict[str, str]
) -> None:
    async with gateway.post(STREAM, **lines) as client:
        await client.read_head()
        assert (client.status, (await client.read_json())["error"]) == (400, f"header.{name}: Send it once.")


@pytest.mark.parametrize("given", ["req-1", "A" * 128, "a_b.c:d-9"])
async def test_request_id_of_the_client_is_kept(gateway: RunningGateway, given: str) -> None:
    async with gateway.post(STREAM, b"{", x_request_id=given) as client:
        await client.read_head()
        assert client.headers["x-request-id"] == given.lower()
        assert (await client.read_json())["request_id"] == given


@pytest.mark.parametrize("given", [{}, {"x_request_id": ""}, {"x_request_id": "A" * 129}, {"x_request_id": "a b"}])
async def test_request_id_is_made_where_there_is_none_to_keep(gateway: RunningGateway, given: dict[str, str]) -> None:
    made = []
    for _ in range(2):
        async with gateway.post(STREAM, b"{", **given) as client:
            await client.read_head()
            made.append(client.headers["x-request-id"])
            assert (await client.read_json())["request_id"] == made[-1]
    assert all(len(request_id) == 32 and int(request_id, 16) for request_id in made)
    assert made[0] != made[1]


async def test_json_reply_is_utf_8(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, b"{") as client:
        await client.read_head()
        assert json.loads((await client.read_body()).decode())["success"] is False

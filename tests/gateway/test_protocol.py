"""A connection's own rules: what has to arrive does so in time and in size, and nobody who left is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from sse_gateway.protocol import MAX_HEAD_BYTES
from tests.gateway.conftest import RunningGateway, logged, running_gateway
from tests.gateway.wire import FALLBACK, STREAM, Connection, connect, encoded, events_in, question
from tests.waiting import turns

if TYPE_CHECKING:
    from tests.gateway.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"header_timeout_seconds": 0.2, "body_timeout_seconds": 0.2}
BODY = encoded(question())
HEAD = b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


async def refusal(client: Connection) -> Any:
    """Reads an error reply that is the connection's last."""
    await client.read_head()
    reply = json.loads(await client.read_body())
    assert client.headers["connection"] == "close"
    assert client.headers["x-request-id"] == reply["request_id"]
    assert await client.reader.read() == b""
    return reply


async def closed(client: Connection) -> bytes:
    """Waits for the end of the connection; returns what came before."""
    async with asyncio.timeout(5):
        try:
            return await client.reader.read()
        except ConnectionResetError:
            return b""


async def test_connection_that_sends_nothing_is_closed_without_a_word(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        assert await closed(client) == b""


@pytest.mark.parametrize("begun", [b"P", b"POST / HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\nhost: gate"])
async def test_head_that_does_not_arrive_is_told_408(gateway: RunningGateway, begun: bytes) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(begun)
        reply = await refusal(client)
    assert (client.status, reply["code"]) == (408, "INVALID_REQUEST")


async def test_head_that_trickles_is_told_408(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        trickling = asyncio.create_task(trickle(client, b"GET / HTTP/1.1\r\nx: " + b"y" * 1000))
        await refusal(client)
        trickling.cancel()
    assert client.status == 408


async def trickle(client: Connection, data: bytes) -> None:
    """Sends slowly: the pause is what the test is about."""
    for byte in data:
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("path", [STREAM, FALLBACK, "/unknown"])
async def test_body_that_stops_arriving_is_told_408_and_asks_no_engine(gateway: RunningGateway, path: str) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(HEAD % (path.encode(), len(BODY)) + BODY[:-1])
        await client.read_head()
    assert client.status == (404 if path == "/unknown" else 408)


async def test_body_that_trickles_is_told_408(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(HEAD % (STREAM.encode(), len(BODY)))
        trickling = asyncio.create_task(trickle(client, BODY))
        reply = await refusal(client)
        trickling.cancel()
    assert (client.status, reply["code"]) == (408, "INVALID_REQUEST")


async def test_request_refused_while_it_arrived_is_one_line_in_the_log(engine: FakeEngine) -> None:
    with logged() as lines:
        serving = running_gateway(engine.url, body_timeout_seconds=0.1)
        async with serving as gateway, connect(gateway.port) as client:
            client.writer.write(HEAD % (STREAM.encode(), len(BODY)))
            reply = await refusal(client)
            await gateway.rest()
    records = [record for record in map(json.loads, lines()) if record.get("request_id") == reply["request_id"]]
    assert [(r["event"], r["status"], r["outcome"]) for r in records] == [("request ended", 408, "INVALID_REQUEST")]


async def test_answered_request_whose_body_never_ends_is_let_go(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(HEAD % (b"/unknown", 10**9))
        await client.read_head()
        await client.read_body()
        assert await closed(client) == b""


async def test_connection_is_used_again_after_an_answer_that_came_before_the_body(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(HEAD % (b"/unknown", len(BODY)))
        await client.read_head()
        await client.read_body()
        client.writer.write(BODY)
        await client.send("GET", "/healthz")
        await client.read_head()
    assert client.status == 200


async def test_head_that_is_too_large_is_told_431(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(b"GET / HTTP/1.1\r\n")
        writing = asyncio.create_task(flood(client, b"x-filler: " + b"y" * 1000 + b"\r\n"))
        await client.read_head()
        writing.cancel()
    assert client.status == 431


async def flood(client: Connection, line: bytes) -> None:
    for _ in range(10 * MAX_HEAD_BYTES // len(line)):
        client.writer.write(line)
        await client.writer.drain()
        await turns()  # the gateway's: it runs in this loop


CHUNKED = b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("trailer", [b"a: b\r\n" * 200, b"b" * 1000], ids=["many", "one"])
async def test_trailers_without_end_are_cut(engine: FakeEngine, trailer: bytes) -> None:
    async with running_gateway(engine.url) as gateway, connect(gateway.port) as client:
        client.writer.write(CHUNKED % STREAM.encode() + b"2\r\n{}\r\n0\r\nx: y")
        with contextlib.suppress(ConnectionError):
            await flood(client, trailer)
        await closed(client)


async def test_trailer_is_no_header(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        head = CHUNKED % FALLBACK.encode()
        client.writer.write(head + b"2\r\n{}\r\n0\r\nx-request-id: from-a-trailer\r\n\r\n")
        await client.read_head()
    assert client.headers["x-request-id"] != "from-a-trailer"


async def test_empty_line_before_a_request_is_none(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(b"\r\n")
        assert await closed(client) == b""
    async with connect(gateway.port) as client:
        client.writer.write(b"\r\n")
        await client.send("GET", "/healthz")
        await client.read_head()
    assert client.status == 200


async def test_body_in_very_many_tiny_chunks_is_cut(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        await client.send_head("POST", STREAM, transfer_encoding="chunked")
        client.writer.write(b"1\r\n \r\n" * 1_000_000)
        await closed(client)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        b"GET http://host:99999/ HTTP/1.1\r\nhost: gateway\r\n\r\n",
        b"GET mailto:a HTTP/1.1\r\nhost: gateway\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_told_400_in_json(gateway: RunningGateway, garbage: bytes) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(garbage)
        await client.read_head()
        assert client.status in (400, 404, 405)
        assert (await client.read_json())["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("target", ["http://gateway", "HTTP://gateway?a=/b", "https://gateway:3000", "http://gateway/"])
async def test_address_as_a_proxy_writes_it_is_read(gateway: RunningGateway, target: str) -> None:
    async with connect(gateway.port) as client:
        await client.send("GET", target)
        await client.read_head()
        assert b"<html" in await client.read_body()
    assert client.status == 200


@pytest.mark.parametrize("offer", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n", b"expect: 100-continue\r\n"])
async def test_stream_for_http_1_0_comes_as_it_is_and_ends_with_the_connection(
    gateway: RunningGateway, engine: FakeEngine, offer: bytes
) -> None:
    head = (HEAD % (STREAM.encode(), len(BODY))).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connect(gateway.port) as client:
        client.writer.write(head[:-2] + offer + b"\r\n" + BODY)
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        await call.text("It is")
        await call.finish()
        async with asyncio.timeout(5):
            events = events_in(await client.reader.read())
    assert (client.status, client.headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in client.headers
    assert [event["type"] for event in events] == ["start", "content", "end"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("GET", "/unknown"), ("HEAD", "/"), ("GET", "/")])
async def test_reply_for_http_1_0_has_its_length_and_is_the_connections_last(
    gateway: RunningGateway, method: str, path: str
) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        await client.read_head()
        body = await closed(client)
    assert client.headers["connection"] == "close"
    assert len(body) == (0 if method == "HEAD" else int(client.headers["content-length"]))


async def test_garbage_behind_a_request_does_not_come_between_its_events(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    async with gateway.streaming(engine) as (client, call):
        client.writer.write(b"garbage\r\n\r\n")
        assert b"400" not in await closed(client)
        async with asyncio.timeout(5):
            await call.cancelled.wait()


async def test_request_that_does_not_wait_for_the_answer_before_it_ends_both(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    async with gateway.post(STREAM) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        client.writer.write(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        await closed(client)
        async with asyncio.timeout(5):
            await call.cancelled.wait()


@pytest.mark.parametrize("at_once", [True, False])
async def test_offer_of_another_protocol_is_passed_over(
    gateway: RunningGateway, engine: FakeEngine, at_once: bool
) -> None:
    head = HEAD % (STREAM.encode(), len(BODY))
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
    async with connect(gateway.port) as client:
        client.writer.write(head[:-2] + offer + (BODY if at_once else b""))
        if not at_once:
            await gateway.until_busy()
            client.writer.write(BODY)
        call = await engine.next_call()
        await call.start()
        await call.finish()
        await client.read_head()
        assert b'"end"' in await client.read_body()
    assert client.status == 200


@pytest.mark.parametrize(("path", "filler"), [("/healthz", MAX_HEAD_BYTES), ("/" + "y" * MAX_HEAD_BYTES, 1)])
async def test_head_that_is_too_large_is_told_431_though_it_comes_at_once(
    gateway: RunningGateway, path: str, filler: int
) -> None:
    async with connect(gateway.port) as client:
        await client.send("GET", path, x_filler="y" * filler)
        await client.read_head()
        assert (client.status, (await client.read_json())["code"]) == (431, "INVALID_REQUEST")

"""The scripted model's server, byte by byte: what is on the wire, and how connections end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.upstream import (
    Signal,
    Upstream,
    answer,
    chunk,
    close,
    events,
    gate,
    html,
    pieces,
    raw,
    reply,
    reset,
    running_upstream,
    silence,
    stream_headers,
    wire,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAIT_SECONDS = 5.0
EMOJI = "π ≈ 3.14 \u2028 漢字 🧮"


class RawClient:
    """A client that sends and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def post(self, body: bytes = b"{}") -> None:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def read(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(65536), WAIT_SECONDS)

    async def read_all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), WAIT_SECONDS)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


def address(upstream: Upstream) -> tuple[str, int]:
    return "127.0.0.1", int(upstream.base_url.removeprefix("http://127.0.0.1:").removesuffix("/v1"))


class Recorder(asyncio.Protocol):
    """A client that keeps what each read of its socket gave."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost = Signal()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"POST /v1/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")

    def data_received(self, data: bytes) -> None:
        self.received.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@contextlib.asynccontextmanager
async def connected(upstream: Upstream) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(*address(upstream))
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def plain(upstream: Upstream) -> AsyncIterator[RawClient]:
    async with connected(upstream) as client:
        yield client


async def test_every_write_is_received_by_itself(upstream: Upstream) -> None:
    event = events.content_event(EMOJI)
    upstream.script(stream_headers(chunked=False), pieces(event), close())
    _, recorder = await asyncio.get_running_loop().create_connection(Recorder, *address(upstream))
    await recorder.lost.within()
    assert recorder.received[0].startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
    assert recorder.received[1:] == [event[at : at + 1] for at in range(len(event))]


async def test_body_without_length_lasts_until_the_server_closes(upstream: Upstream, plain: RawClient) -> None:
    upstream.script(stream_headers(chunked=False, headers={"Content-Type": "text/plain"}), raw(b"a"))
    plain.post()
    everything = await plain.read_all()
    assert everything.endswith(b"\r\n\r\na")
    assert b"content-type: text/plain\r\n" in everything
    assert b"transfer-encoding" not in everything


async def test_wire_sends_broken_framing_untouched(upstream: Upstream, plain: RawClient) -> None:
    upstream.script(stream_headers(), wire(b"zz\r\nnot a chunk\r\n"), close())
    plain.post()
    assert (await plain.read_all()).endswith(b"\r\n\r\nzz\r\nnot a chunk\r\n")


async def test_html_and_json_replies_arrive_whole(upstream: Upstream, plain: RawClient) -> None:
    upstream.script(html(502))
    upstream.script(reply(200, {"a": 1}))
    plain.post()
    head, _, page = (await plain.read()).partition(b"\r\n\r\n")
    assert b"502 Bad Gateway\r\ncontent-type: text/html\r\n" in head
    assert page.startswith(b"<html>")
    plain.post()
    head, _, body = (await plain.read()).partition(b"\r\n\r\n")
    assert b"content-type: application/json\r\n" in head
    assert json.loads(body) == {"a": 1}


async def test_close_and_reset_differ_on_the_socket(upstream: Upstream) -> None:
    for ending, seen in ((close(), None), (reset(), ConnectionResetError)):
        upstream.script(stream_headers(), raw(b"x"), ending)
        async with connected(upstream) as plain:
            plain.post()
            with pytest.raises(seen) if seen else contextlib.nullcontext():
                assert (await plain.read_all()).endswith(b"1\r\nx\r\n")
    assert [request.closed.is_set() for request in upstream.requests] == [False, False]


@pytest.mark.parametrize("steps", [(silence(),), (stream_headers(), chunk("a"), gate(Signal()))])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_client_leaving_is_seen_in_silence_and_at_a_gate(
    upstream: Upstream, plain: RawClient, steps: tuple[object, ...], how: str
) -> None:
    upstream.script(*steps)  # type: ignore[arg-type]  # parametrize forgets what the steps are
    plain.post()
    request = await upstream.request(0)
    before = asyncio.get_running_loop().time()
    assert not request.closed.is_set()
    plain.reset() if how == "reset" else plain.writer.close()
    await request.closed.within()
    assert request.closed_at is not None
    assert request.opened <= before <= request.closed_at
    assert not upstream.connections


async def test_address_refuses_after_the_context() -> None:
    async with Upstream() as upstream:
        pass
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address(upstream))


async def test_end_of_context_leaves_no_task_and_no_connection() -> None:
    before = asyncio.all_tasks()
    upstream = await Upstream().__aenter__()
    upstream.script(silence())
    async with connected(upstream) as plain:
        plain.post()
        await upstream.request(0)
        await upstream.__aexit__(None)
        assert not upstream.connections
        assert asyncio.all_tasks() == before
        assert await plain.read_all() == b""


def test_upstream_in_a_thread_serves_a_test_without_a_loop() -> None:
    opening = Signal()
    with running_upstream() as upstream:
        upstream.script(gate(opening), answer("from a thread"))
        with socket.create_connection(address(upstream)) as client:
            client.sendall(b"POST /v1/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
            request = upstream.block_request(0)
            assert request.json == {}
            opening.set()
            client.settimeout(WAIT_SECONDS)
            received = b""
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += client.recv(65536)
            assert b"from a thread" in received
        request.closed.block()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(upstream.base_url, timeout=WAIT_SECONDS)

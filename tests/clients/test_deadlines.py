"""A deadline bounds the whole answer over HTTP, whatever trickles in meanwhile: httpx2's time-outs are of each read."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import studyai_client as sa
from studyai_client import AsyncStudyAI, Backoff, StudyAI, Tls
from tests import upstream as up
from tests.certificates import Authority
from tests.end_to_end.conftest import WORKSHEET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clients.conftest import Wire
    from tests.end_to_end.conftest import Service
    from tests.upstream.steps import Step

TIMEOUT = 0.6
ENDS_BY = 3.0
"""Seconds; what trickles goes on for ten."""
ONCE = Backoff(attempts=0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def trickling(before: bytes, piece: bytes) -> list[Step]:
    """A reply that never stops coming, and never comes to anything."""
    return [up.wire(before), *[step for _ in range(100) for step in (up.pause(0.1), up.wire(piece))]]


TRICKLES = {
    "comments": trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\n:\n\n\r\n"),
    "comments until the connection's end": trickling(HEAD + b"Connection: close\r\n\r\n", b":\n\n"),
    "the head": trickling(HEAD + b"X-Slow: ", b"x"),
    "JSON": trickling(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n", b" "),
}


@pytest.mark.parametrize("trickle", TRICKLES)
@pytest.mark.parametrize("whole", [False, True])
def test_reply_that_trickles_ends_at_the_deadline(trickle: str, whole: bool) -> None:
    with up.running_upstream() as server, StudyAI(address(server), timeout=TIMEOUT, backoff=ONCE) as studyai:
        server.default(*TRICKLES[trickle])
        begun = time.monotonic()
        with pytest.raises(sa.DeadlineExceededError):
            (studyai.complete if whole else lambda *question: studyai.ask(*question).read())(WORKSHEET, "x?")
        assert TIMEOUT <= time.monotonic() - begun < ENDS_BY


async def test_the_same_holds_for_asyncio() -> None:
    async with up.Upstream() as server, AsyncStudyAI(address(server), timeout=TIMEOUT, backoff=ONCE) as studyai:
        server.default(*TRICKLES["comments"])
        begun = time.monotonic()
        with pytest.raises(sa.DeadlineExceededError):
            await studyai.ask(WORKSHEET, "x?").read()
        assert TIMEOUT <= time.monotonic() - begun < ENDS_BY


@pytest.mark.parametrize("seconds", [float("inf"), 1e10])
def test_time_out_that_is_longer_than_anybody_waits_is_none(service: Service, wire: Wire, seconds: float) -> None:
    assert wire.ask(wire.url(service), WORKSHEET, "x?", timeout=seconds).text == "Hello there."


def test_upload_that_nobody_takes_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # nobody accepts
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        begun = time.monotonic()
        with StudyAI(url, timeout=TIMEOUT, backoff=ONCE) as studyai, pytest.raises(sa.DeadlineExceededError):
            studyai.ask(WORKSHEET.read_bytes() + bytes(2_000_000), "x?").read()
        assert TIMEOUT <= time.monotonic() - begun < ENDS_BY


def test_reply_that_trickles_over_tls_ends_at_the_deadline(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path, "server")
    ca = authority.write(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trickling_over(context) as port:
        begun = time.monotonic()
        url, tls = f"https://localhost:{port}", Tls(ca_file=ca)
        with (
            StudyAI(url, timeout=TIMEOUT, backoff=ONCE, tls=tls) as studyai,
            pytest.raises(sa.DeadlineExceededError),
        ):
            studyai.ask(WORKSHEET, "x?").read()
        assert TIMEOUT <= time.monotonic() - begun < ENDS_BY


def test_threads_share_a_client_and_keep_their_own_deadlines() -> None:
    ended: dict[float, float] = {}

    def ask(studyai: StudyAI, timeout: float) -> None:
        begun = time.monotonic()
        with pytest.raises(sa.DeadlineExceededError):
            studyai.ask(WORKSHEET, "x?", timeout=timeout).read()
        ended[timeout] = time.monotonic() - begun

    with up.running_upstream() as server, StudyAI(address(server), backoff=ONCE) as studyai:
        server.default(*TRICKLES["comments"])
        threads = [threading.Thread(target=ask, args=(studyai, timeout)) for timeout in (0.4, 1.4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert 0.4 <= ended[0.4] < 1.4 <= ended[1.4] < 1.4 + ENDS_BY


def address(server: up.Upstream) -> str:
    return server.base_url.removesuffix("/v1")


@contextmanager
def trickling_over(context: ssl.SSLContext) -> Iterator[int]:
    """A server that takes one connection, and sends comments until it is left; yields its port."""
    left = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with context.wrap_socket(connection, server_side=True) as stream:
            stream.recv(65_536)
            stream.sendall(HEAD + b"Connection: close\r\n\r\n")
            while not left.wait(0.1):
                try:
                    stream.sendall(b":\n\n")
                except OSError:  # the client has left
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            left.set()
            thread.join(5)

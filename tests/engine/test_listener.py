"""What a stranger may send to the engine's port that gRPC cannot read: it ends nothing, and is not quoted."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from studyai.v1 import chat_pb2_grpc

from engine_grpc.listener import Listener, by_name
from tests import upstream as up
from tests.engine.harness import request
from tests.processes import running_engine_process
from tests.upstream import events
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Process, Served
    from tests.upstream import Connection, Upstream

BROKEN = "another takes its place"
KNOWN = (("authorization", "Bearer " + "t" * 40),)
SECRET = b"canary-" + b"t" * 40
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS = 4, 1
END_STREAM, END_HEADERS = 1, 4


@pytest.fixture
def engine(upstream: Upstream) -> Iterator[Process]:
    with running_engine_process(upstream.base_url, SERVICE_TOKEN="t" * 40) as engine:
        yield engine


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """See RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header as it is, see RFC 7541, section 6.2.2."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def head_of_call(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"), (b"te", b"trailers")]
    return b"".join(field(*one) for one in (*head, (b"content-type", b"application/grpc"), *more))


def send(engine: Served, path: bytes, *more: tuple[bytes, bytes]) -> None:
    """Sends the head of a call, and waits until the engine has ended it or the connection."""
    head = frame(HEADERS, END_STREAM | END_HEADERS, 1, head_of_call(path, *more))
    with socket.create_connection(("127.0.0.1", engine.port), 5) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + head)
        connection.settimeout(5)
        connection.recv(65_536)


async def test_engine_and_its_running_answers_go_on_after_paths_that_grpc_cannot_read(
    engine: Process, upstream: Upstream
) -> None:
    enough = up.Signal()

    async def flow(connection: Connection) -> None:
        while not enough.is_set():
            await connection.write_body(events.content_event("so "))
            await up.pause(0.01)(connection)

    upstream.default(up.stream_headers(), flow, up.finish(), up.done())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        running = [asyncio.ensure_future(told(stub.ChatImage(request(), metadata=KNOWN))) for _ in range(30)]
        await until(lambda: len(upstream.requests) == len(running))
        upstream.default(up.answer("Again."))
        for _ in range(3):
            broken = engine.log.count(BROKEN)
            await asyncio.to_thread(send, engine, b"/\xff")
            await until(lambda broken=broken: engine.log.count(BROKEN) > broken)  # type: ignore[misc]
            await until(lambda: answers(stub))
        enough.set()
        assert {told.strip("so ") for told in await asyncio.gather(*running)} == {""}
    assert engine.stop() == 0


def test_broken_server_is_let_go() -> None:
    # A process of its own: pytest keeps what is logged, and what broke a server knows it.
    subprocess.run(
        [sys.executable, "-c", "from tests.engine.test_listener import *; asyncio.run(let_go())"], check=True
    )


async def let_go() -> None:
    made: list[weakref.ref[grpc.aio.Server]] = []

    def make() -> grpc.aio.Server:
        server = by_name(grpc.aio.server())
        made.append(weakref.ref(server))
        return server

    listener = Listener(make, "127.0.0.1", 0, None)
    await listener.start()
    await asyncio.to_thread(send, listener, b"/\xff")
    await until(lambda: gc.collect() >= 0 and made[0]() is None)
    await listener.stop(0)


async def answers(stub: Any) -> bool:
    return await told(stub.ChatImage(request(), metadata=KNOWN)) == "Again."


async def told(call: Any) -> str:
    """An answer's text, or the status that it broke off with."""
    text = ""
    try:
        while message := await call.read():
            text += message.text_delta.text
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return text


async def test_metadata_that_grpc_refuses_is_not_quoted_in_the_log(engine: Process) -> None:
    send(engine, b"/studyai.v1.ChatService/ChatImage", (b"authorization", b"Bearer " + SECRET + b"\xa0"))
    await until(lambda: "Invalid encoding" in engine.log)
    assert SECRET.decode() not in engine.log

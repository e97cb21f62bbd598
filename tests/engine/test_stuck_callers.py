"""Callers whose flow-control window is full: they take nothing, and cost nobody anything when they leave."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.engine.harness import request
from tests.engine.test_listener import END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, head_of_call
from tests.processes import running_engine_process
from tests.waiting import until

if TYPE_CHECKING:
    from tests.processes import Process
    from tests.upstream import Upstream

DATA, RST_STREAM = 0, 3
TINY_WINDOW = b"\0\4" + (100).to_bytes(4, "big")
"""SETTINGS_INITIAL_WINDOW_SIZE, see RFC 9113, section 6.5.2."""
CANCEL = (8).to_bytes(4, "big")


def ask(engine: Process) -> socket.socket:
    """Asks on a connection whose streams may send a hundred bytes."""
    message = request().SerializeToString()
    head = head_of_call(b"/studyai.v1.ChatService/ChatImage")
    body = b"\0" + len(message).to_bytes(4, "big") + message
    assert len(body) < 16_384
    connection = socket.create_connection(("127.0.0.1", engine.port), 5)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, TINY_WINDOW) + frame(HEADERS, END_HEADERS, 1, head))
    connection.sendall(frame(DATA, END_STREAM, 1, body))
    return connection


@pytest.mark.parametrize("cancels", [True, False])
async def test_caller_that_takes_nothing_and_leaves_is_no_fault_of_the_engine(
    upstream: Upstream, cancels: bool
) -> None:
    upstream.default(up.stream_headers(), *[up.chunk("so " * 200)] * 20, up.silence())
    with running_engine_process(upstream.base_url) as engine:
        with ask(engine) as connection:
            await until(lambda: len(upstream.requests) == 1)
            if cancels:
                connection.sendall(frame(RST_STREAM, 0, 1, CANCEL))
                await until(lambda: "call ended" in engine.log)
        await until(lambda: "call ended" in engine.log)
    assert '"code": "CANCELLED"' in engine.log
    assert "unexpected exception" not in engine.log

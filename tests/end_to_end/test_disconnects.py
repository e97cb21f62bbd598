"""A client that leaves, in whatever phase, stops the model at once and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests import upstream as up
from tests.end_to_end.conftest import body
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.end_to_end.conftest import Service

STREAM, FALLBACK = "/api/ai/chat-image-stream", "/api/ai/chat-image"
PHASES: dict[str, list[Any]] = {
    "before the model's headers": [up.silence()],
    "before the first token": [up.stream_headers(), up.silence()],
    "in mid-stream": [up.stream_headers(), up.chunk("Hi"), up.silence()],
}


def send(service: Service, path: str, *, only: int | None = None) -> socket.socket:
    """Sends a question, or only so many bytes of it, on a raw socket."""
    payload = json.dumps(body()).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    client = socket.create_connection(("127.0.0.1", service.gateway.port), timeout=5)
    client.sendall((head.encode() + payload)[:only])
    return client


def reset(client: socket.socket) -> None:
    """Closes with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def sockets_of(pid: int) -> int:
    """How many sockets a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    return sum(1 for entry in folder.iterdir() if _target(entry).startswith("socket:"))


def until_at_most(sockets: int, pid: int) -> None:
    eventually(lambda: sockets_of(pid) <= sockets)


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts sockets in /proc")
@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("path", [STREAM, FALLBACK])
@pytest.mark.parametrize("steps", PHASES.values(), ids=PHASES)
def test_leaving_closes_the_connection_to_the_model_within_250_ms(
    service: Service, steps: list[Any], path: str, leave: Callable[[socket.socket], None]
) -> None:
    requests.post(service.url + path, json=body(), timeout=10)
    service.upstream.forget()
    before = [sockets_of(process.pid) for process in (service.engine, service.gateway)]
    service.upstream.script(*steps)
    client = send(service, path)
    asked = service.upstream.block_request()
    if path == STREAM:
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    left = time.monotonic()
    leave(client)
    asked.closed.block()
    assert asked.closed_at is not None
    assert asked.closed_at - left < 0.25
    for process, sockets in zip((service.engine, service.gateway), before, strict=True):
        until_at_most(sockets, process.pid)


def test_leaving_in_the_upload_asks_no_model(service: Service) -> None:
    client = send(service, STREAM, only=3000)
    client.close()
    reply = requests.post(service.stream_url, json=body(prompt="The next one"), timeout=10)
    assert '"type":"end"' in reply.text
    assert len(service.upstream.requests) == 1


def test_gone_clients_are_one_line_in_each_log(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.silence())
    with requests.post(
        service.stream_url, json=body(), stream=True, timeout=10, headers={"X-Request-Id": "gone-1"}
    ) as reply:
        lines = reply.iter_lines(chunk_size=1)
        assert next(lines)  # kept: what is collected closes the connection
        asked = service.upstream.block_request()
    asked.closed.block()
    eventually(lambda: "gone-1" in service.gateway.log and '"client_gone"' in service.engine.log)
    ours = [line for line in service.gateway.log.splitlines() if "gone-1" in line]
    assert len(ours) == 1
    assert json.loads(ours[0])["outcome"] == "client_gone"
    assert "Traceback" not in service.gateway.log + service.engine.log

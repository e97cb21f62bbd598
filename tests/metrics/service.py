"""The service with its metrics served, and something for them to count."""

from __future__ import annotations

import json
import re
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from tests import upstream as up
from tests.end_to_end.conftest import Service, body
from tests.processes import free_port, running_engine_process, running_gateway_process
from tests.upstream import running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAMPLE = re.compile(r"^(?P<series>\w+(?:\{[^}]*\})?) (?P<value>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """The whole service, and where its engine's metrics are."""

    service: Service
    engine_metrics_port: int

    def metrics(self) -> dict[str, float]:
        """Every series of both services and its value, the gateway's where both have it."""
        engine = requests.get(f"http://127.0.0.1:{self.engine_metrics_port}/metrics", timeout=5).text
        gateway = requests.get(f"{self.service.url}/metrics", timeout=5).text
        return {sample["series"]: float(sample["value"]) for sample in _SAMPLE.finditer(engine + gateway)}

    def ask_in_all_ways(self) -> None:
        """An answer streamed, in one reply, broken off, resumed, joined; a refused question; a client that leaves."""
        url, upstream = self.service.url, self.service.upstream
        upstream.script(up.stream_headers(), up.chunk("So "), up.chunk("x."), up.finish(), up.usage(7, 2), up.done())
        key = {"Idempotency-Key": f"k{len(upstream.requests)}"}
        streamed = requests.post(self.service.stream_url, json=body(), headers=key, timeout=10)
        (answer_id,) = re.findall(r'"answer_id":"(\w+)"', streamed.text)
        assert requests.post(f"{url}/api/ai/chat-image", json=body(), headers=key, timeout=10).json()["success"]
        resuming = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
        assert requests.get(f"{url}/api/ai/answers/{answer_id}", headers=resuming, timeout=10).ok
        assert requests.get(f"{url}/api/ai/answers/forgotten", headers=resuming, timeout=10).status_code == 404
        upstream.script(up.stream_headers(), up.chunk("So "), up.reset())
        assert "UPSTREAM_TRUNCATED" in requests.post(self.service.stream_url, json=body(), timeout=10).text
        assert requests.post(self.service.stream_url, json={}, timeout=10).status_code == 400
        upstream.script(up.stream_headers(), up.chunk("So "), up.silence())
        ask_and_leave(self.service.gateway.port)
        upstream.requests[-1].closed.block()


def ask_and_leave(port: int) -> None:
    """Asks at a gateway, and leaves with the first word."""
    sent = json.dumps(body()).encode()
    head = f"POST /api/ai/chat-image-stream HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + sent)
        got = b""
        while b'"delta"' not in got:
            got += client.recv(1000)


@contextmanager
def measured_service() -> Iterator[Measured]:
    """The service with its metrics served, for the time of the context."""
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        port = free_port()
        engine = stack.enter_context(running_engine_process(upstream.base_url, ENGINE_METRICS_PORT=str(port)))
        yield Measured(Service(upstream, engine, stack.enter_context(running_gateway_process(engine))), port)

"""Two real processes in front of the scripted upstream, for callers that mean no good, shared by all tests here."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.processes import Process, running_engine_process, running_gateway_process
from tests.upstream import Upstream, running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data"
WORKSHEET = (DATA / "worksheet.png").read_bytes()
STREAM, FALLBACK = "/api/ai/chat-image-stream", "/api/ai/chat-image"


@dataclass(frozen=True)
class Attacked:
    """The whole service."""

    upstream: Upstream
    engine: Process
    gateway: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    def ask(self, path: str = FALLBACK, **fields: Any) -> requests.Response:
        return requests.post(self.url + path, json=question(**fields), timeout=10)

    def send(self, body: bytes, path: str = FALLBACK, **headers: str) -> requests.Response:
        return requests.post(self.url + path, data=body, headers=headers, timeout=10)

    @property
    def records(self) -> list[Any]:
        """What both processes have logged."""
        return [json.loads(line) for line in (self.engine.log + self.gateway.log).splitlines()]


def question(**fields: Any) -> dict[str, Any]:
    return {"base64_image": base64.b64encode(WORKSHEET).decode(), "prompt": "What is x?", **fields}


@pytest.fixture(scope="package")
def running_service() -> Iterator[Attacked]:
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        engine = stack.enter_context(running_engine_process(upstream.base_url, LOG_LEVEL="debug"))
        gateway = stack.enter_context(running_gateway_process(engine, LOG_LEVEL="debug"))
        yield Attacked(upstream, engine, gateway)


@pytest.fixture
def service(running_service: Attacked) -> Iterator[Attacked]:
    """The service; after every test it answers, and no process has noticed anything."""
    running_service.upstream.forget()
    yield running_service
    running_service.upstream.forget()
    assert running_service.ask().status_code == 200
    assert [record for record in running_service.records if record["level"] in ("warning", "error")] == []

"""Two real processes, an engine and a gateway, in front of the scripted upstream, shared by a test module."""

from __future__ import annotations

import base64
import os
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import Process, running_engine_process, running_gateway_process
from tests.upstream import Upstream, running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data"
WORKSHEET = DATA / "worksheet.png"


@dataclass(frozen=True)
class Service:
    """The whole service."""

    upstream: Upstream
    engine: Process
    gateway: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def stream_url(self) -> str:
        return f"{self.url}/api/ai/chat-image-stream"


def body(**fields: Any) -> dict[str, Any]:
    """A request's body."""
    image = base64.b64encode(WORKSHEET.read_bytes()).decode("ascii")
    return {"base64_image": image, "prompt": "What is x?", **fields}


@contextmanager
def started_service() -> Iterator[Service]:
    """The service, with heartbeats that come often, for the time of the context."""
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        engine = stack.enter_context(running_engine_process(upstream.base_url, LOG_LEVEL="debug"))
        gateway = stack.enter_context(running_gateway_process(engine, HEARTBEAT_SECONDS="0.2", LOG_LEVEL="debug"))
        yield Service(upstream, engine, gateway)


@pytest.fixture(scope="module")
def running_service() -> Iterator[Service]:
    with started_service() as service:
        yield service


@pytest.fixture
def service(running_service: Service) -> Service:
    """The service, with nothing asked yet."""
    running_service.upstream.forget()
    return running_service


def tool(name: str) -> str:
    """The path of a program that `make setup` installs; without it the test is skipped, and fails in CI."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed: `make setup` installs it where it may"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path

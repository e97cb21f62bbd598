"""A gateway on a real port in front of an engine whose every word the test speaks, all in the test's loop."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager, contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from sse_gateway.app import create_app
from sse_gateway.engine import EngineClient
from sse_gateway.lifecycle import Lifecycle
from sse_gateway.log import LogFormat, configure_logging
from sse_gateway.server import GatewayServer, server_config
from sse_gateway.settings import GatewaySettings
from tests.gateway.fake_engine import EngineCall, FakeEngine, fake_engine
from tests.gateway.wire import STREAM, Connection, connect, encoded, question
from tests.waiting import until

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator


@pytest.fixture(scope="session", autouse=True)
def logging_as_shipped() -> None:
    configure_logging("info", "json")


@contextmanager
def logged(level: str = "info", log_format: LogFormat = "json") -> Iterator[Callable[[], list[str]]]:
    """Tells what has been logged meanwhile, line by line."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logging(level, log_format)
        yield lambda: stream.getvalue().splitlines()
    configure_logging("info", "json")


class InLoopServer(GatewayServer):
    """Leaves the test runner's signals alone, and tells when it is there."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.there = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.there.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RunningGateway:
    """What a test does with a gateway: ask it, and look behind the scenes."""

    def __init__(self, server: GatewayServer, lifecycle: Lifecycle) -> None:
        self.server = server
        self.lifecycle = lifecycle
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def post(self, path: str, body: Any = None, **headers: str) -> AsyncIterator[Connection]:
        """Sends a whole question on a connection of its own; the answer is for the test to read."""
        async with connect(self.port) as client:
            await client.send("POST", path, encoded(question() if body is None else body), **headers)
            yield client

    @asynccontextmanager
    async def streaming(self, engine: FakeEngine) -> AsyncIterator[tuple[Connection, EngineCall]]:
        """A stream whose first event was read, and the engine's call that goes on with it."""
        async with self.post(STREAM) as client:
            call = await engine.next_call()
            await call.start()
            await client.read_head()
            await client.read_event()
            yield client, call

    @asynccontextmanager
    async def get(self, path: str, **headers: str) -> AsyncIterator[Connection]:
        """Asks on a connection of its own and reads the response's head."""
        async with connect(self.port) as client:
            await client.send("GET", path, **headers)
            await client.read_head()
            yield client

    async def until_busy(self) -> None:
        """Waits until a request is being served."""
        await until(lambda: self.server.server_state.tasks)

    async def until_held(self, size: int) -> None:
        """Waits until so many bytes of questions are in memory."""
        await until(lambda: self.server.config.loaded_app.state.parts.uploads.held >= size)

    async def until_ready(self) -> None:
        """Asks whether the gateway is ready until it is."""
        async with asyncio.timeout(5):
            while True:
                async with self.get("/readyz") as client:
                    if client.status == 200:
                        return

    async def rest(self) -> None:
        """Waits until nothing of any request is left."""
        await until(lambda: not self.server.server_state.tasks)


@asynccontextmanager
async def running_gateway(
    engine_url: str = "http://localhost", client: EngineClient | None = None, **settings: Any
) -> AsyncIterator[RunningGateway]:
    given = GatewaySettings(_env_file=None, ai_engine_url=engine_url, port=0, **settings)
    lifecycle = Lifecycle()
    engine = client or EngineClient(given.engine_targets, given.engine_access)
    app = create_app(given, engine, lifecycle)
    server = InLoopServer(server_config(app, given), lifecycle, given.drain_seconds, engine.drain)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(5):
        await server.there.wait()
    try:
        yield RunningGateway(server, lifecycle)
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def gateway_with(engine: FakeEngine, **settings: Any) -> AsyncIterator[RunningGateway]:
    """A gateway with these settings, found at rest at its end."""
    async with running_gateway(engine.url, **settings) as running:
        yield running
        await running.rest()
    assert engine.idle


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine() -> AsyncIterator[FakeEngine]:
    async with fake_engine() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_gateway(engine: FakeEngine, request: pytest.FixtureRequest) -> AsyncIterator[RunningGateway]:
    """With the module's `SETTINGS`, where it has any."""
    async with running_gateway(engine.url, **getattr(request.module, "SETTINGS", {})) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(shared_gateway: RunningGateway, engine: FakeEngine) -> AsyncIterator[RunningGateway]:
    """The module's gateway, found at rest again after every test."""
    yield shared_gateway
    await shared_gateway.rest()
    assert engine.idle

"""An engine whose every word the test speaks: each call waits for the test to say what comes next."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health
from grpc_status import rpc_status
from studyai.v1 import chat_pb2, chat_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message

ServicerContext = grpc.aio.ServicerContext[Any, Any]

STARTED = chat_pb2.AnswerStarted(
    answer_id="0f4c9a6be1d24c0f9a3b7d5e8c1f2a6b",
    session_id="chat-7",
    model="gpt-5.4-mini",
    start_time=Timestamp(seconds=1_759_833_000, nanos=123_000_000),
)
FINISHED = chat_pb2.AnswerFinished(
    finish_reason=chat_pb2.FINISH_REASON_STOP,
    usage=chat_pb2.TokenUsage(prompt_tokens=30, completion_tokens=20, total_tokens=50),
    elapsed=Duration(seconds=2, nanos=500_000_000),
)


class EngineCall:
    """One call that a gateway makes, in the hands of the test."""

    def __init__(self, request: Any, context: ServicerContext) -> None:
        self.request = request
        self.metadata = dict(context.invocation_metadata() or ())
        self.cancelled = asyncio.Event()
        self._context = context
        self._sequence = 0
        self._outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def write(self, **event: Any) -> None:
        """Writes one message; `sequence` counts by itself."""
        await self._context.write(chat_pb2.ChatImageResponse(**{"sequence": self._sequence, **event}))
        self._sequence += 1

    @property
    def time_remaining(self) -> float:
        """Seconds until the caller's deadline."""
        return float(self._context.time_remaining())

    async def accept(self) -> None:
        """Says that the request is here, and that there is room for it."""
        await self._context.send_initial_metadata((("x-request-id", self.metadata["x-request-id"]),))

    async def start(self) -> None:
        await self.write(started=STARTED)

    async def text(self, *pieces: str) -> None:
        for piece in pieces:
            await self.write(text_delta=chat_pb2.TextDelta(text=piece))

    async def finish(self, finished: chat_pb2.AnswerFinished = FINISHED) -> None:
        await self.write(finished=finished)
        self.close()

    def close(self, reply: Any = None) -> None:
        """Ends the call with OK."""
        self._outcome.set_result(reply)

    def fail(self, status: grpc.Status) -> None:
        """Ends the call with this status."""
        self._outcome.set_result(status)

    async def serve(self) -> Any:
        try:
            outcome = await self._outcome
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if isinstance(outcome, grpc.Status):
            await self._context.abort_with_status(outcome)
        return outcome


class FakeEngine(chat_pb2_grpc.ChatServiceServicer):
    """A ChatService on a real port."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.url = ""
        self._server = server
        self.health = aio_health.HealthServicer()
        self._calls: asyncio.Queue[EngineCall] = asyncio.Queue()

    async def next_call(self) -> EngineCall:
        async with asyncio.timeout(5):
            return await self._calls.get()

    async def die(self) -> None:
        """Goes away under its calls."""
        await self._server.stop(0)

    @property
    def idle(self) -> bool:
        """Whether every call that came was asked for by the test."""
        return self._calls.empty()

    async def ChatImage(self, request: Any, context: ServicerContext) -> None:  # type: ignore[override]  # yields nothing
        await self._take(request, context)

    async def CompleteChatImage(self, request: Any, context: ServicerContext) -> Any:
        return await self._take(request, context)

    async def ResumeAnswer(self, request: Any, context: ServicerContext) -> None:  # type: ignore[override]  # yields nothing
        await self._take(request, context)

    async def StopAnswer(self, request: Any, context: ServicerContext) -> Any:
        return await self._take(request, context)

    async def _take(self, request: Any, context: ServicerContext) -> Any:
        call = EngineCall(request, context)
        self._calls.put_nowait(call)
        return await call.serve()


@asynccontextmanager
async def fake_engine(port: int = 0) -> AsyncIterator[FakeEngine]:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", 8 * 1024 * 1024),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
        ]
    )
    engine = FakeEngine(server)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(engine, server)
    health_pb2_grpc.add_HealthServicer_to_server(engine.health, server)
    await engine.health.set("", health_pb2.HealthCheckResponse.SERVING)
    engine.url = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield engine
    finally:
        await server.stop(0)


def failure(
    status: grpc.StatusCode,
    reason: str | None = None,
    message: str = "the engine's own words",
    *,
    domain: str = "studyai",
    retry_after_ms: int | None = None,
    field: str | None = None,
) -> grpc.Status:
    """A status as the engine's, with its details."""
    details: list[Message] = []
    if reason is not None:
        details.append(ErrorInfo(domain=domain, reason=reason))
    if retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(RetryInfo(retry_delay=delay))
    if field is not None:
        details.append(BadRequest(field_violations=[BadRequest.FieldViolation(field=field, description=message)]))
    packed = []
    for detail in details:
        any_message = AnyMessage()
        any_message.Pack(detail)
        packed.append(any_message)
    return rpc_status.to_status(status_pb2.Status(code=status.value[0], message=message, details=packed))

"""The gRPC server: ChatService, health, reflection; and its life from the first call to the last."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_health.v1.health import aio as aio_health
from grpc_reflection.v1alpha import reflection
from studyai.v1 import chat_pb2, chat_pb2_grpc

from engine_grpc.interceptors import CallBoundary
from engine_grpc.listener import Listener, by_name
from engine_grpc.service_token import ServiceToken
from engine_grpc.servicer import ChatServicer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine_grpc.registry import Answers
    from engine_grpc.tutor import Tutor

log = structlog.get_logger(__name__)

SERVICE = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
_MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_OPTIONS = (
    # Room for a picture that is too large: it gets PAYLOAD_TOO_LARGE, which says more than gRPC's own refusal.
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Two engines on one port would each get some of the calls: refuse to start instead.
    ("grpc.so_reuseport", 0),
    # Callers may ping an idle connection every 5 s to find out that this machine is gone.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # And the engine finds out that a caller is.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)

_LAST_WORDS_SECONDS = 2
"""For the readers of the answers that draining ended to be told."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A server that listens, and what it needs to end well."""

    listener: Listener
    health: aio_health.HealthServicer
    calls: CallBoundary
    answers: Answers

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listener.port

    async def stop(self, grace: float) -> None:
        """Takes no new calls, lets the running ones end within `grace` seconds, then ends the rest with DRAINING."""
        await self.health.enter_graceful_shutdown()
        stopping = asyncio.ensure_future(self.listener.stop(grace + _LAST_WORDS_SECONDS))
        # The readers that other engines have make no calls here.
        await _wait(asyncio.gather(self.calls.idle(), self.answers.unread()), grace)
        await self.answers.close()
        await _wait(self.calls.idle(), _LAST_WORDS_SECONDS)
        # What is left are calls that nobody waits for, such as watches of our health.
        await self.listener.stop(0)
        await stopping

    def log_state(self) -> None:
        """Logs how much is in hand."""
        log.info("state", tasks=len(asyncio.all_tasks()), calls=self.calls.live, live_answers=self.answers.live)


async def _wait(ending: Awaitable[object], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ending


async def start_engine(
    tutor: Tutor,
    answers: Answers,
    host: str,
    port: int,
    *,
    credentials: Callable[[], grpc.ServerCredentials] | None,
    tokens: Sequence[str],
) -> Engine:
    """Starts serving.

    Args:
        tutor: Answers.
        answers: The tutor's.
        host: Where to listen.
        port: 0 takes a free one.
        credentials: Makes those of one server, for TLS; None listens without.
        tokens: What callers have to show, one of them; none asks for nothing.

    Raises:
        OSError: The address cannot be listened on.
    """
    known, calls = [ServiceToken(tokens)] if tokens else [], CallBoundary(SERVICE)
    servicer, health = ChatServicer(tutor), aio_health.HealthServicer()
    await health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)

    def make() -> grpc.aio.Server:
        server = by_name(grpc.aio.server(interceptors=[*known, calls], options=_OPTIONS))
        chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection((SERVICE, SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    listener = Listener(make, host, port, credentials)
    await listener.start()
    return Engine(listener, health, calls, answers)


def take_signals(engine: Engine) -> asyncio.Event:
    """Returns what is set by SIGTERM and SIGINT from now on. SIGUSR1 has the state logged."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    loop.add_signal_handler(signal.SIGUSR1, engine.log_state)
    return asked


async def serve_until(asked: asyncio.Event, engine: Engine, drain_seconds: float) -> None:
    """Serves until it is asked to stop, then drains; asked a second time it drops what is left."""
    await asked.wait()
    asked.clear()
    log.info("draining", live_answers=engine.answers.live, at_most_seconds=drain_seconds)
    draining = asyncio.ensure_future(engine.stop(drain_seconds))
    again = asyncio.ensure_future(asked.wait())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not draining.done():
        await engine.stop(0)
    await draining

"""The gRPC server: ChatService, health, reflection; and its life from the first call to the last."""

from __future__ import annotations

import asyncio
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
from engine_grpc.servicer import ChatServicer

if TYPE_CHECKING:
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

    server: grpc.aio.Server
    health: aio_health.HealthServicer
    answers: Answers
    port: int

    async def stop(self, grace: float) -> None:
        """Takes no new calls, lets the running ones end within `grace` seconds, then ends the rest with DRAINING."""
        await self.health.enter_graceful_shutdown()
        stopping = asyncio.ensure_future(self.server.stop(grace + _LAST_WORDS_SECONDS))
        # The readers that other engines have make no calls here.
        reading = asyncio.ensure_future(self.answers.unread())
        await asyncio.wait({stopping, reading}, timeout=grace)
        reading.cancel()
        await self.answers.close()
        await stopping


async def start_engine(tutor: Tutor, answers: Answers, host: str, port: int) -> Engine:
    """Starts serving.

    Raises:
        OSError: The address cannot be listened on.
    """
    server = grpc.aio.server(interceptors=[CallBoundary(SERVICE)], options=_OPTIONS)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(ChatServicer(tutor), server)
    health = aio_health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    await health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    names = (SERVICE, SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    bound = _listen(server, host, port)
    await server.start()
    return Engine(server, health, answers, bound)


def _listen(server: grpc.aio.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError:
        raise OSError(
            f"cannot listen on {host} port {port}: ENGINE_HOST is not of this machine, or the port is taken"
        ) from None


async def run_until_signal(engine: Engine, drain_seconds: float) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal drops what is left."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
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

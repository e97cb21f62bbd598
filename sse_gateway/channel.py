"""A gRPC channel to one endpoint of the engine, with the calls that the gateway makes on it.

Nothing is retried here, and an endpoint that cannot be reached is given up early: another may be well.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from studyai.v1 import chat_pb2, chat_pb2_grpc
from studyai.v1.chat_pb2 import ChatImageResponse, CompleteChatImageRequest, CompleteChatImageResponse

from sse_gateway import tracing
from sse_gateway.misconfiguration import misconfiguration

if TYPE_CHECKING:
    from pathlib import Path

    from studyai.v1.chat_pb2 import (
        ChatImageRequest,
        ResumeAnswerRequest,
        ResumeAnswerResponse,
        StopAnswerRequest,
        StopAnswerResponse,
    )

    from sse_gateway.engine_url import EngineTarget

log = structlog.get_logger(__name__)

_SERVICE = f"/{chat_pb2.DESCRIPTOR.services_by_name['ChatService'].full_name}"
_MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    # An engine that is back is found within 2 s; one that does not even refuse is given up after 3 s.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # An engine that is frozen, or whose machine is gone, is noticed within 15 s; it permits a ping every 5 s. The ping
    # has a time-out of its own beside keepalive's: a minute, unless it is told.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The engine is ours, and near: an http_proxy in the environment is for others.
    ("grpc.enable_http_proxy", 0),
)
_NO_PASSWORD = "none"  # noqa: S105 - without one OpenSSL asks the terminal for it
_NO_TOKEN = (("authorization", "none"),)
"""Goes with health checks where there is no token: an engine that wants one says so then, as it does of a wrong one."""
_BALANCED = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))


@dataclass(frozen=True, slots=True)
class EngineAccess:
    """How the engine knows the gateway, and the gateway the engine. The files are PEM."""

    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Goes with every call: the service token."""
    ca: Path | None = None
    """The authorities whose word for an engine is taken; None: the public ones that gRPC brings."""
    certificate: Path | None = None
    """The gateway's own certificate chain; None: it has none to show."""
    key: Path | None = None
    """Its private key, not encrypted."""
    server_name: str | None = None
    """What an engine's certificate is to name, where it is not the name that it is reached by."""

    def stamp(self) -> tuple[tuple[int, ...] | None, ...]:
        """Returns something that is another when a file is another, and empty where there are no files."""
        return tuple(_stamp(path) for path in (self.ca, self.certificate, self.key) if path)

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns what to connect with, read from the files.

        Raises:
            OSError: They cannot be read, or are not what they should be, which gRPC itself would not tell.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca:
            context.load_verify_locations(self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key, _NO_PASSWORD)
        ca, key, certificate = (path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate))
        return grpc.ssl_channel_credentials(ca, key, certificate)


class Endpoint(NamedTuple):
    """A place where the engine is, or engines are: a channel to it, with the calls that are made on it."""

    name: str
    """What it is reached by."""
    channel: grpc.aio.Channel
    stream: grpc.aio.UnaryStreamMultiCallable[list[ChatImageRequest], ChatImageResponse]
    complete: grpc.aio.StreamUnaryMultiCallable[Any, CompleteChatImageResponse]
    """A stream of one request, which is the same on the wire: unlike a unary call it does not keep what it has sent."""
    resume: grpc.aio.UnaryStreamMultiCallable[ResumeAnswerRequest, ResumeAnswerResponse]
    stop: grpc.aio.UnaryUnaryMultiCallable[StopAnswerRequest, StopAnswerResponse]
    check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    balanced: bool
    """Whether it is a name of several engines."""
    metadata: tuple[tuple[str, str], ...]
    """What each call carries."""
    reported: set[str]
    """What has been logged to be wrong with it since it was well."""

    async def serving(self, within: float) -> bool:
        """Tells whether the engine says of itself, within so many seconds, that it is serving."""
        try:
            reply = await self.check(
                health_pb2.HealthCheckRequest(), metadata=self.metadata or _NO_TOKEN, timeout=within
            )
        except grpc.aio.AioRpcError as error:
            self._report(misconfiguration(error))
            return False
        self.reported.clear()
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def _report(self, why: str | None) -> None:
        if why and why not in self.reported:
            log.error("the engine cannot be used", why=why)
            self.reported.add(why)


def connect(target: EngineTarget, access: EngineAccess) -> Endpoint:
    """Opens a channel. To be called in the loop that it is used in; it connects with the first call.

    Raises:
        OSError: The files for TLS cannot be used.
    """
    channel = _channel(target, access)
    chat: chat_pb2_grpc.ChatServiceAsyncStub = chat_pb2_grpc.ChatServiceStub(channel)
    health: Any = health_pb2_grpc.HealthStub(channel)
    stream = channel.unary_stream(f"{_SERVICE}/ChatImage", _serialized, ChatImageResponse.FromString)
    complete: Any = channel.stream_unary(
        f"{_SERVICE}/CompleteChatImage",
        CompleteChatImageRequest.SerializeToString,
        CompleteChatImageResponse.FromString,
    )

    def traced(make: Any, method: str) -> Any:
        return tracing.traced(make, f"{_SERVICE[1:]}/{method}", target.name)

    return Endpoint(
        name=target.name,
        channel=channel,
        stream=traced(stream, "ChatImage"),
        complete=traced(complete, "CompleteChatImage"),
        resume=traced(chat.ResumeAnswer, "ResumeAnswer"),
        stop=traced(chat.StopAnswer, "StopAnswer"),
        check=health.Check,
        balanced=target.balanced,
        metadata=access.metadata,
        reported=set(),
    )


def _channel(target: EngineTarget, access: EngineAccess) -> grpc.aio.Channel:
    options = (*_OPTIONS, _BALANCED) if target.balanced else _OPTIONS
    if not target.tls:
        return grpc.aio.insecure_channel(target.name, options)
    if access.server_name:
        options = (*options, ("grpc.ssl_target_name_override", access.server_name))
    return grpc.aio.secure_channel(target.name, access.credentials(), options)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _serialized(request: list[ChatImageRequest]) -> bytes:
    """Serializes a request. A call keeps what it is given to its end: a list, which can be emptied before."""
    return request[0].SerializeToString()

"""The engine's client: channels, calls, and every way in which a call can fail as a `GatewayError`.

It retries nothing: what failed before the first event is the client's to ask again, and after it there is no again.
gRPC balances what one name resolves to; several names are several channels, taken in turn, since no gRPC resolver
takes a list of names and TLS has to check each name for itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from studyai.v1 import chat_pb2, chat_pb2_grpc
from studyai.v1.chat_pb2 import ChatImageResponse

from sse_gateway.errors import ErrorCode, GatewayError
from sse_gateway.status import gateway_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from types import TracebackType

    from studyai.v1.chat_pb2 import (
        ChatImageRequest,
        CompleteChatImageRequest,
        CompleteChatImageResponse,
        ResumeAnswerRequest,
        ResumeAnswerResponse,
        StopAnswerRequest,
        StopAnswerResponse,
    )

    from sse_gateway.engine_url import EngineTarget

Message = TypeVar("Message")

_STREAM_METHOD = f"/{chat_pb2.DESCRIPTOR.services_by_name['ChatService'].full_name}/ChatImage"
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
_HEALTH_SECONDS = 1.0
"""Between two health checks, and how long one may take."""
_BALANCED = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))
_RELUCTANCE = {
    grpc.ChannelConnectivity.READY: 0,
    grpc.ChannelConnectivity.IDLE: 1,
    grpc.ChannelConnectivity.CONNECTING: 1,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: 2,
    grpc.ChannelConnectivity.SHUTDOWN: 3,
}
"""Where a call should rather not go: lower first."""


class _Place(NamedTuple):
    """One of the places where the engine is."""

    channel: grpc.aio.Channel
    stream: grpc.aio.UnaryStreamMultiCallable[list[ChatImageRequest], ChatImageResponse]
    complete: grpc.aio.UnaryUnaryMultiCallable[CompleteChatImageRequest, CompleteChatImageResponse]
    resume: grpc.aio.UnaryStreamMultiCallable[ResumeAnswerRequest, ResumeAnswerResponse]
    stop: grpc.aio.UnaryUnaryMultiCallable[StopAnswerRequest, StopAnswerResponse]
    check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]


class EngineClient:
    """Asks the engine. To be entered in the loop it is used in.

    Args:
        targets: Where it is, at least one place.
    """

    def __init__(self, targets: Sequence[EngineTarget]) -> None:
        self._targets = targets
        self._places: list[_Place] = []
        self._turn = itertools.count()
        self._unwell: set[grpc.aio.Channel] = set()
        self._checking: asyncio.Task[None] | None = None
        self._calls: set[grpc.aio.Call] = set()
        self._drained = False

    async def __aenter__(self) -> Self:
        self._places = [_connect(target) for target in self._targets]
        if len(self._places) > 1:
            self._checking = asyncio.create_task(self._check_health())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._checking:
            self._checking.cancel()
            await asyncio.wait({self._checking})
        await asyncio.gather(*(place.channel.close() for place in self._places))

    def stream(self, request: ChatImageRequest, request_id: str) -> AsyncGenerator[ChatImageResponse, None]:
        """Yields the engine's messages as they come. Close it to cancel the call.

        Raises:
            GatewayError: The call failed.
        """
        held = [request]
        return self._messages(lambda: self._next().stream(held, metadata=_metadata(request_id)))

    def resume(self, request: ResumeAnswerRequest, request_id: str) -> AsyncGenerator[ResumeAnswerResponse, None]:
        """Yields the messages of an answer that was begun before. Close it to leave the answer.

        Raises:
            GatewayError: The call failed.
        """
        return self._messages(lambda: self._next().resume(request, metadata=_metadata(request_id)))

    async def complete(self, request: CompleteChatImageRequest, request_id: str) -> CompleteChatImageResponse:
        """Returns the whole answer. Cancelling this cancels the call.

        Raises:
            GatewayError: The call failed.
        """
        return await self._reply(self._next().complete(request, metadata=_metadata(request_id)))

    async def stop(self, request: StopAnswerRequest, request_id: str) -> None:
        """Stops an answer.

        Raises:
            GatewayError: The call failed.
        """
        await self._reply(self._next().stop(request, metadata=_metadata(request_id)))

    def drain(self) -> None:
        """Ends every running call with DRAINING, and every later one."""
        self._drained = True
        for call in self._calls:
            call.cancel()

    async def _messages(
        self, begin: Callable[[], grpc.aio.UnaryStreamCall[Any, Message]]
    ) -> AsyncGenerator[Message, None]:
        # Begun here and not before: a generator that is never started ends no call.
        call = begin()
        with self._told_apart(call):
            async for message in call:
                yield message

    async def _reply(self, call: grpc.aio.UnaryUnaryCall[Any, Message]) -> Message:
        with self._told_apart(call):
            return await call

    @contextmanager
    def _told_apart(self, call: grpc.aio.Call) -> Iterator[None]:
        """Cancels a call at the end, and tells its failures apart: the engine's, our draining, our client's leaving."""
        self._calls.add(call)
        try:
            if self._drained:
                raise GatewayError(ErrorCode.DRAINING)
            yield
        except grpc.aio.AioRpcError as error:
            raise gateway_error(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._drained and task and not task.cancelling():
                raise GatewayError(ErrorCode.DRAINING) from None
            raise
        finally:
            self._calls.discard(call)
            call.cancel()

    async def serving(self, within: float) -> bool:
        """Tells whether any engine says of itself, within so many seconds, that it is serving."""
        return any(await asyncio.gather(*(_serving(place, within) for place in self._places)))

    async def _check_health(self) -> None:
        """Asks each engine for its health now and then: one may be connected, and frozen or draining all the same."""
        while True:
            serving = await asyncio.gather(*(_serving(place, _HEALTH_SECONDS) for place in self._places))
            self._unwell = {place.channel for place, well in zip(self._places, serving, strict=True) if not well}
            await asyncio.sleep(_HEALTH_SECONDS)

    def _next(self) -> _Place:
        """Takes the places in turn: the healthy ones before the others, the connected ones before the others."""
        start = next(self._turn) % len(self._places)
        return min(self._places[start:] + self._places[:start], key=self._reluctance)

    def _reluctance(self, place: _Place) -> tuple[bool, int]:
        return place.channel in self._unwell, _RELUCTANCE[place.channel.get_state(try_to_connect=True)]


def _metadata(request_id: str) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id),)


def _connect(target: EngineTarget) -> _Place:
    options = (*_OPTIONS, _BALANCED) if target.balanced else _OPTIONS
    if target.tls:
        channel = grpc.aio.secure_channel(target.name, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.aio.insecure_channel(target.name, options)
    chat: chat_pb2_grpc.ChatServiceAsyncStub = chat_pb2_grpc.ChatServiceStub(channel)
    health: Any = health_pb2_grpc.HealthStub(channel)
    stream = channel.unary_stream(_STREAM_METHOD, _serialized_once, ChatImageResponse.FromString)
    return _Place(channel, stream, chat.CompleteChatImage, chat.ResumeAnswer, chat.StopAnswer, health.Check)


def _serialized_once(request: list[ChatImageRequest]) -> bytes:
    """Serializes a request and lets go of it. A call keeps what it is given to its end, which here is an empty list."""
    return request.pop().SerializeToString()


async def _serving(place: _Place, within: float) -> bool:
    try:
        reply = await place.check(health_pb2.HealthCheckRequest(), timeout=within)
    except grpc.aio.AioRpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

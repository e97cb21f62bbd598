"""The engine's client: channels, calls, and every way in which a call can fail as a `GatewayError`.

It retries nothing: what failed before the first event is the client's to ask again, and after it there is no again.
gRPC balances what one name resolves to; several names are several channels, taken in turn, since no gRPC resolver
takes a list of names and TLS has to check each name for itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from studyai.v1 import chat_pb2_grpc

from sse_gateway.status import gateway_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from types import TracebackType

    from studyai.v1.chat_pb2 import (
        ChatImageRequest,
        ChatImageResponse,
        CompleteChatImageRequest,
        CompleteChatImageResponse,
    )

    from sse_gateway.engine_url import EngineTarget

_MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    # An engine that is back is found within 2 s; one that does not even refuse is given up after 3 s.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # An engine whose machine is gone is noticed within 15 s; the engine permits a ping every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The engine is ours, and near: an http_proxy in the environment is for others.
    ("grpc.enable_http_proxy", 0),
)
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
    chat: chat_pb2_grpc.ChatServiceAsyncStub
    health: Any
    """A HealthStub, whose types name no methods."""


class EngineClient:
    """Asks the engine. To be entered in the loop it is used in.

    Args:
        targets: Where it is, at least one place.
    """

    def __init__(self, targets: Sequence[EngineTarget]) -> None:
        self._targets = targets
        self._places: list[_Place] = []
        self._turn = itertools.count()

    async def __aenter__(self) -> Self:
        self._places = [_connect(target) for target in self._targets]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(place.channel.close() for place in self._places))

    async def stream(self, request: ChatImageRequest, request_id: str) -> AsyncGenerator[ChatImageResponse, None]:
        """Yields the engine's messages as they come. Close it to cancel the call.

        Raises:
            GatewayError: The call failed.
        """
        call = self._next().ChatImage(request, metadata=(("x-request-id", request_id),))
        try:
            async for message in call:
                # The call keeps its request to its end. The engine has it now: give the picture's memory back.
                request.Clear()
                yield message
        except grpc.aio.AioRpcError as error:
            raise gateway_error(error) from None
        finally:
            call.cancel()

    async def complete(self, request: CompleteChatImageRequest, request_id: str) -> CompleteChatImageResponse:
        """Returns the whole answer. Cancelling this cancels the call.

        Raises:
            GatewayError: The call failed.
        """
        call = self._next().CompleteChatImage(request, metadata=(("x-request-id", request_id),))
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise gateway_error(error) from None
        finally:
            call.cancel()

    async def serving(self, within: float) -> bool:
        """Tells whether any engine says of itself, within so many seconds, that it is serving."""
        return any(await asyncio.gather(*(_serving(place, within) for place in self._places)))

    def _next(self) -> chat_pb2_grpc.ChatServiceAsyncStub:
        """Takes the places in turn, those that are connected before the others."""
        start = next(self._turn) % len(self._places)
        in_turn = self._places[start:] + self._places[:start]
        return min(in_turn, key=lambda place: _RELUCTANCE[place.channel.get_state(try_to_connect=True)]).chat


def _connect(target: EngineTarget) -> _Place:
    options = (*_OPTIONS, _BALANCED) if target.balanced else _OPTIONS
    if target.tls:
        channel = grpc.aio.secure_channel(target.name, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.aio.insecure_channel(target.name, options)
    return _Place(channel, chat_pb2_grpc.ChatServiceStub(channel), health_pb2_grpc.HealthStub(channel))


async def _serving(place: _Place, within: float) -> bool:
    try:
        reply = await place.health.Check(health_pb2.HealthCheckRequest(), timeout=within)
    except grpc.aio.AioRpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

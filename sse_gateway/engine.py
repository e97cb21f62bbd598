"""The engine's client: calls, and every way in which a call can fail as a `GatewayError`.

A call that one engine refuses, or that it cannot be reached for, goes to the next as long as nothing of an answer has
come; so engines that stop, start and fill up are not noticed while another is there. After that there is no again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import grpc
import structlog

from sse_gateway import metrics
from sse_gateway.endpoints import Endpoints
from sse_gateway.errors import ErrorCode, GatewayError
from sse_gateway.room import Room
from sse_gateway.status import gateway_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
    from types import TracebackType

    from studyai.v1.chat_pb2 import (
        ChatImageRequest,
        ChatImageResponse,
        CompleteChatImageRequest,
        CompleteChatImageResponse,
        ResumeAnswerRequest,
        ResumeAnswerResponse,
        StopAnswerRequest,
    )

    from sse_gateway.channel import Endpoint, EngineAccess
    from sse_gateway.engine_url import EngineTarget

log = structlog.get_logger(__name__)

Message = TypeVar("Message")
Reply = grpc.aio.UnaryUnaryCall[Any, Message] | grpc.aio.StreamUnaryCall[Any, Message]
Call = TypeVar("Call", bound=grpc.aio.Call)

_ELSEWHERE = {ErrorCode.ENGINE_UNAVAILABLE, ErrorCode.DRAINING, ErrorCode.OVERLOADED}
"""Failures of one engine, which another need not have."""
_MAY_JOIN = ("x-may-join", "1")
"""Metadata of a question with a key: an engine that is full looks whether it has the answer before it refuses."""
_ACCEPTED = "x-request-id"
"""Metadata that an engine sends when it has a request, and room for it."""
_MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call is made with, beside its request."""

    request_id: str
    deadline: float | None = None
    """When its client has no more use for it, in the loop's time."""
    accepted: Callable[[], None] = lambda: None
    """Called when an engine has all of the request."""

    def given(self, endpoint: Endpoint, *more: tuple[str, str]) -> dict[str, Any]:
        """Returns the call's arguments at an endpoint.

        Raises:
            GatewayError: DEADLINE_EXCEEDED, already.
        """
        metadata = (*endpoint.metadata, ("x-request-id", self.request_id), *more)
        if self.deadline is None:
            return {"metadata": metadata}
        seconds = self.deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            raise GatewayError(ErrorCode.DEADLINE_EXCEEDED)
        return {"metadata": metadata, "timeout": seconds}


class EngineClient:
    """Asks the engine. To be entered in the loop it is used in.

    Args:
        targets: Where it is, at least one.
        access: How to be let in there.
    """

    def __init__(self, targets: Sequence[EngineTarget], access: EngineAccess) -> None:
        self._endpoints = Endpoints(targets, access)
        self._room = Room()
        self._calls = _Calls()

    async def __aenter__(self) -> Self:
        await self._endpoints.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._endpoints.__aexit__(exc_type, exc, traceback)

    def stream(self, request: ChatImageRequest, options: CallOptions) -> AsyncGenerator[ChatImageResponse, None]:
        """Yields the engine's messages as they come. Close it to cancel the call.

        Raises:
            GatewayError: The call failed.
        """
        held = _Held(request, options, self._room)
        return self._messages(lambda endpoint: endpoint.stream(held.request, **held.given(endpoint)), held.let_go)

    def resume(self, request: ResumeAnswerRequest, options: CallOptions) -> AsyncGenerator[ResumeAnswerResponse, None]:
        """Yields the messages of an answer that was begun before. Close it to leave the answer.

        Raises:
            GatewayError: The call failed.
        """
        return self._messages(lambda endpoint: endpoint.resume(request, **options.given(endpoint)), options.accepted)

    def complete(
        self, request: CompleteChatImageRequest, options: CallOptions
    ) -> Coroutine[Any, Any, CompleteChatImageResponse]:
        """Returns the whole answer. Cancelling this cancels the call.

        Raises:
            GatewayError: The call failed.
        """
        held = _Held(request, options, self._room)
        return self._reply(lambda endpoint: endpoint.complete(held.request, **held.given(endpoint)), held.let_go)

    async def stop(self, request: StopAnswerRequest, options: CallOptions) -> None:
        """Stops an answer.

        Raises:
            GatewayError: The call failed.
        """
        await self._reply(lambda endpoint: endpoint.stop(request, **options.given(endpoint)), options.accepted)

    def check_room(self) -> None:
        """Tells early, before a question is even read, what became of those before it.

        Raises:
            GatewayError: OVERLOADED.
        """
        if self._room.none:
            raise GatewayError(ErrorCode.OVERLOADED)

    def drain(self) -> None:
        """Ends every running call with DRAINING, and every later one."""
        self._calls.drained = True
        for call in self._calls.running:
            call.cancel()

    async def serving(self, within: float) -> bool:
        """Tells whether any engine says of itself, within so many seconds, that it is serving."""
        return await self._endpoints.serving(within)

    async def _messages(
        self, begin: Callable[[Endpoint], grpc.aio.UnaryStreamCall[Any, Message]], accepted: Callable[[], None]
    ) -> AsyncGenerator[Message, None]:
        # Begun here and not before: a generator that is never started ends no call.
        for endpoint, last in self._attempts():
            begun = False
            try:
                with _Running(begin(endpoint), self._calls) as call:
                    while (message := await call.read()) is not grpc.aio.EOF:
                        if not begun:
                            begun = True
                            accepted()
                        yield cast("Message", message)
            except GatewayError as error:
                _log(error, endpoint)
                if begun or last or not self._worth_another(error):
                    raise self._noted(error) from None
            else:
                return

    async def _reply(self, begin: Callable[[Endpoint], Reply[Message]], accepted: Callable[[], None]) -> Message:
        for endpoint, last in self._attempts():
            begun = False
            try:
                with _Running(begin(endpoint), self._calls) as call:
                    if begun := _ACCEPTED in dict(await call.initial_metadata()):
                        accepted()
                    return await call
            except GatewayError as error:
                _log(error, endpoint)
                if begun or last or not self._worth_another(error):
                    raise self._noted(error) from None
        raise AssertionError("the last attempt returns or raises")

    def _attempts(self) -> list[tuple[Endpoint, bool]]:
        """The endpoints to ask, one after the other, and whether each is the last."""
        # A name of several engines is worth asking twice.
        endpoints = [again for one in self._endpoints.in_turn() for again in (one,) * (2 if one.balanced else 1)]
        endpoints = endpoints[:_MAX_ATTEMPTS]
        return [(endpoint, number == len(endpoints)) for number, endpoint in enumerate(endpoints, 1)]

    def _worth_another(self, error: GatewayError) -> bool:
        """Whether another engine may be asked after this failure of one."""
        return error.code in _ELSEWHERE and not self._calls.drained

    def _noted(self, error: GatewayError) -> GatewayError:
        """Takes in how a call failed in the end."""
        if error.code is ErrorCode.OVERLOADED:
            self._room.missed()
        return error


def _log(error: GatewayError, endpoint: Endpoint) -> None:
    """Says which engine was gone: the client learns no more than that one was, and not even that if another answers."""
    if error.code is ErrorCode.ENGINE_UNAVAILABLE:
        log.warning("an engine did not answer", engine=endpoint.name)


@dataclass(slots=True)
class _Calls:
    """A client's."""

    running: set[grpc.aio.Call] = field(default_factory=set)
    drained: bool = False


class _Running(Generic[Call]):
    """A call while it runs: cancelled at its end, and its failures told apart.

    They are the engine's, our draining, or our client's leaving, which is not a `GatewayError` but what it was.
    """

    __slots__ = ("_call", "_calls")

    def __init__(self, call: Call, calls: _Calls) -> None:
        self._call = call
        self._calls = calls

    def __enter__(self) -> Call:
        if self._calls.drained:
            self._call.cancel()
            raise GatewayError(ErrorCode.DRAINING)
        self._calls.running.add(self._call)
        return self._call

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._calls.running.discard(self._call)
        self._call.cancel()
        if error is None:
            metrics.ENGINE_CALLS.labels("OK").inc()
        elif failure := self._failure(error):
            metrics.ENGINE_CALLS.labels(failure.code).inc()
            raise failure from None

    def _failure(self, error: BaseException) -> GatewayError | None:
        """Returns what an exception means; None, if it is not the call's."""
        if isinstance(error, grpc.aio.AioRpcError):
            return gateway_error(error)
        if not isinstance(error, asyncio.CancelledError) or _cancelling():
            return None
        if self._calls.drained:
            return GatewayError(ErrorCode.DRAINING)
        # gRPC tells a deadline in this way too, where it passes before the request is sent.
        late = self._call.time_remaining() == 0
        return GatewayError(ErrorCode.DEADLINE_EXCEEDED if late else ErrorCode.ENGINE_UNAVAILABLE)


def _cancelling() -> bool:
    """Whether it is the running task that is being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Held:
    """A question on its way: kept until an engine has it, since it may have to be sent again, and not longer.

    gRPC keeps a call's argument until the call ends; it is given a list, which is emptied once an engine has accepted.
    """

    __slots__ = ("_metadata", "_options", "_room", "request")

    def __init__(self, request: ChatImageRequest | CompleteChatImageRequest, options: CallOptions, room: Room) -> None:
        self.request: Any = [request]
        self._options = options
        self._room = room
        self._metadata = (_MAY_JOIN,) if request.request_id else ()

    def given(self, endpoint: Endpoint) -> dict[str, Any]:
        return self._options.given(endpoint, *self._metadata)

    def let_go(self) -> None:
        self.request.clear()
        if not self._metadata:  # else it may have joined an answer, which needs no room
            self._room.found()
        self._options.accepted()

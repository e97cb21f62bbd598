"""What every call of ChatService goes through: a request id, the error boundary, and one access line in the log."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from engine_grpc import metrics, tracing
from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.status import to_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from engine_grpc.grpc_types import Handler, ServicerContext

    Behaviour = Callable[[Any, ServicerContext], Awaitable[Any]]

log = structlog.get_logger(__name__)

REQUEST_ID = "x-request-id"
_ARRIVAL_SECONDS = 30
"""How long a caller may take to send what it asks: its answer's place is kept meanwhile."""
_LEAVING_SECONDS = 1
"""How long gRPC may take to notice that a caller has left, once nothing can be sent to it any more."""
_VALID_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class _Call:
    """A call that is being served."""

    code: str = "OK"
    """Name of the gRPC status that it ends with."""


class CallBoundary(grpc.aio.ServerInterceptor):
    """Wraps the handlers of one service, all of them coroutines, and leaves others (health, reflection) alone."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._prefix = f"/{service}/"
        self._calls: set[asyncio.Task[Any]] = set()
        self._handlers: dict[str, Handler] = {}

    @property
    def live(self) -> int:
        """How many calls are being served."""
        return len(self._calls)

    async def idle(self) -> None:
        """Waits until no call is being served."""
        while self._calls:
            await asyncio.wait(self._calls)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the handler, wrapped; see `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or not method.startswith(self._prefix):
            return handler
        if method not in self._handlers:
            self._handlers[method] = self._wrapped(handler, method.removeprefix(self._prefix))
        return self._handlers[method]

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        """Returns the handler as one of a stream of requests, which on the wire is the same as one request.

        It is called when the head of the call has come: it may refuse before a picture is sent, and gRPC keeps none.
        """
        make: Any = grpc.stream_unary_rpc_method_handler
        behaviour: Any = handler.unary_unary
        if handler.response_streaming:
            make, behaviour = grpc.stream_stream_rpc_method_handler, handler.unary_stream
        assert handler.request_deserializer is not None
        call = self._bounded(behaviour, method, handler.request_deserializer)
        wrapped: Handler = make(call, response_serializer=handler.response_serializer)
        return wrapped

    def _bounded(self, behaviour: Behaviour, method: str, deserialize: Callable[[bytes], Any]) -> Behaviour:
        async def call(_requests: object, context: ServicerContext) -> Any:
            request_id = request_id_of(context)
            with self._noted(method, context, request_id) as noted:
                try:
                    return await _until_left(behaviour(Arrival(context, request_id, deserialize), context))
                except Exception as error:  # noqa: BLE001 - the boundary: told in fixed words, logged without its text
                    failure = _failure(error)
                    noted.code = failure.status
            # Out here: gRPC keeps an aborted call, its frames and the failure that it was aborted for until Python
            # collects its garbage, and a picture with them until there is no memory left.
            return await _refuse(context, failure)

        return call

    @contextmanager
    def _noted(self, method: str, context: ServicerContext, request_id: str) -> Iterator[_Call]:
        """Binds the request id to the log, opens the call's span, and logs and counts how the call ended."""
        began, call = time.perf_counter(), _Call()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._note_call()
        with tracing.call(f"{self._service}/{method}", context.invocation_metadata()) as span:
            try:
                yield call
            except asyncio.CancelledError:
                call.code = "CANCELLED"
                raise
            finally:
                duration_ms = round((time.perf_counter() - began) * 1000)
                log.info("call ended", method=method, code=call.code, duration_ms=duration_ms)
                metrics.CALLS.labels(method, call.code).inc()
                tracing.call_ended(span, call.code)

    def _note_call(self) -> None:
        """Counts a call until its caller has been told how it ended, which gRPC does in this task after us."""
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)


def _failure(error: Exception) -> EngineError:
    """What the caller is told of an exception."""
    if isinstance(error, EngineError):
        return error.alone()
    log_unexpected(log, error)
    return EngineError(Reason.INTERNAL)


async def _refuse(context: ServicerContext, failure: EngineError) -> None:
    """Ends the call with the failure; see `grpc.aio.ServicerContext.abort_with_status`, which always raises."""
    await _until_left(context.abort_with_status(to_status(failure)))


async def _until_left(serving: Awaitable[Any]) -> Any:
    """Awaits what sends to a caller; where nothing can be sent, leaves gRPC the time to cancel the call.

    The caller has left then. gRPC knows a moment later, and tells no event: before, this would be an error of ours.
    """
    try:
        return await serving
    except grpc.aio.InternalError:
        await asyncio.sleep(_LEAVING_SECONDS)
        raise


class Arrival:
    """A call's request on its way in."""

    __slots__ = ("_context", "_deserialize", "_request_id")

    def __init__(self, context: ServicerContext, request_id: str, deserialize: Callable[[bytes], Any]) -> None:
        self._context = context
        self._request_id = request_id
        self._deserialize = deserialize

    async def request(self) -> Any:
        """Takes the request in.

        Raises:
            EngineError: DEADLINE_EXCEEDED or INVALID_REQUEST.
        """
        try:
            async with asyncio.timeout(_ARRIVAL_SECONDS):
                # Taken as bytes: what they are not is told by us, in our words.
                request = await self._context.read()
            return self._deserialize(request if isinstance(request, bytes) else b"")
        except TimeoutError:
            raise EngineError(Reason.DEADLINE_EXCEEDED, "The request did not arrive in time.") from None
        except DecodeError:
            raise EngineError(Reason.INVALID_REQUEST, "The request is not a message of this method.") from None

    async def accept(self) -> None:
        """Tells the caller that its request is in hand: the metadata is the first that it hears."""
        await asyncio.sleep(0)  # What the request has set going has its turn first: the model is asked meanwhile.
        await self._context.send_initial_metadata(((REQUEST_ID, self._request_id),))


def request_id_of(context: ServicerContext) -> str:
    """The caller's request id if it is one to log, or a new one."""
    given = dict(context.invocation_metadata() or ()).get(REQUEST_ID)
    if isinstance(given, str) and _VALID_REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex

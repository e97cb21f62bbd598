"""What every call of ChatService goes through: a request id, the error boundary, and one access line in the log."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.status import to_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = grpc.RpcMethodHandler[Any, Any]
    Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]

log = structlog.get_logger(__name__)

REQUEST_ID = "x-request-id"
_VALID_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class CallBoundary(grpc.aio.ServerInterceptor):
    """Wraps the handlers of one service, all of them coroutines, and leaves others (health, reflection) alone."""

    def __init__(self, service: str) -> None:
        self._prefix = f"/{service}/"

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
        return _wrapped(handler, method.removeprefix(self._prefix))


def _wrapped(handler: Handler, method: str) -> Handler:
    make: Any = grpc.unary_unary_rpc_method_handler
    behaviour: Any = handler.unary_unary
    if handler.response_streaming:
        make, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
    assert handler.request_deserializer is not None
    # The bytes are taken as they are: what they are not is told inside the boundary, in its words.
    call = _bounded(behaviour, method, handler.request_deserializer)
    wrapped: Handler = make(call, response_serializer=handler.response_serializer)
    return wrapped


def _bounded(behaviour: Behaviour, method: str, deserialize: Callable[[bytes], Any]) -> Behaviour:
    async def call(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        began = time.perf_counter()
        code = "OK"
        request_id = _request_id(context)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await context.send_initial_metadata(((REQUEST_ID, request_id),))
            return await behaviour(_deserialized(request, deserialize), context)
        except EngineError as error:
            code = error.status
            await context.abort_with_status(to_status(error))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = str(context.code())
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: told in fixed words, logged without its text
            code = "INTERNAL"
            log_unexpected(log, error)
            await context.abort_with_status(to_status(EngineError(Reason.INTERNAL)))
        finally:
            duration_ms = round((time.perf_counter() - began) * 1000)
            log.info("call ended", method=method, code=code, duration_ms=duration_ms)

    return call


def _deserialized(request: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    try:
        return deserialize(request)
    except DecodeError:
        raise EngineError(Reason.INVALID_REQUEST, "The request is not a message of this method.") from None


def _request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The caller's request id if it is one to log, or a new one."""
    given = dict(context.invocation_metadata() or ()).get(REQUEST_ID)
    if isinstance(given, str) and _VALID_REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex

"""The service token: who calls the engine shows one, in the metadata `authorization: Bearer <token>` (RFC 6750, 2.1).

A call without a good one is refused when its head has come, before anything of its message is read. Health checks
may come without a token, since what probes a machine knows none; but a token that they do show has to be good, so that
a caller can find out whether its own is. Several tokens are good at once while one takes the place of another.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1.health import SERVICE_NAME as HEALTH

from engine_grpc import metrics
from engine_grpc.errors import EngineError, Reason
from engine_grpc.interceptors import request_id_of
from engine_grpc.status import to_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine_grpc.grpc_types import Handler, ServicerContext

log = structlog.get_logger(__name__)

_HEALTH_PREFIX = f"/{HEALTH}/"
_REFUSED = EngineError(Reason.UNAUTHENTICATED)
_UNKNOWN_METHOD = "unknown"
"""Stands in the log and in metrics for what the caller made up."""


class ServiceToken(grpc.aio.ServerInterceptor):
    """Refuses calls of all services that show no good token. The first of the interceptors.

    Args:
        tokens: The good ones, at least one.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the handler, or one that refuses; see `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        shown = [value for name, value in handler_call_details.invocation_metadata or () if name == "authorization"]
        if self._is_good(shown) or (not shown and method.startswith(_HEALTH_PREFIX)):
            return handler
        return _refusal(method.rpartition("/")[2] if handler else _UNKNOWN_METHOD)

    def _is_good(self, shown: Sequence[str | bytes]) -> bool:
        """Takes as long for every wrong token. Two tokens in one call are none."""
        if len(shown) != 1 or not isinstance(shown[0], str):
            return False
        scheme, _, token = shown[0].partition(" ")
        given = _digest(token)
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches) and scheme.lower() == "bearer"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refusal(method: str) -> Handler:
    async def refuse(_requests: object, context: ServicerContext) -> None:
        log.info("call ended", method=method, code=_REFUSED.status, duration_ms=0, request_id=request_id_of(context))
        metrics.CALLS.labels(method, _REFUSED.status).inc()
        # No metadata first: that would say that the engine has the request.
        await context.abort_with_status(to_status(_REFUSED))

    # A stream of requests, whatever the method has: the others are called when the request is there.
    refusal: Handler = grpc.stream_stream_rpc_method_handler(refuse)
    return refusal

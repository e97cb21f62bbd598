"""What every request goes through: a request id, the error boundary, and one access line in the log at its end.

Pure ASGI: Starlette's BaseHTTPMiddleware hides the client's disconnect from what it wraps.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders

from sse_gateway.disconnect import ClientGoneError, ClientStalledError
from sse_gateway.errors import ErrorCode, GatewayError, error_response
from sse_gateway.record import RequestRecord

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

REQUEST_ID = "x-request-id"
_PROBES = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds by machines: of interest to nobody but who looks for them."""
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class RequestBoundary:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(Headers(scope=scope)))
        scope.setdefault("state", {})["record"] = record
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=record.request_id)
        await _Exchange(record, scope, receive, send).run(self._app)


class _Exchange:
    """One request through the application."""

    def __init__(self, record: RequestRecord, scope: Scope, receive: Receive, send: Send) -> None:
        self._record = record
        self._scope = scope
        self._receive = receive
        self._send = send

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._receive, self.send)
        except ClientGoneError as gone:
            await self._leave(gone)
        except asyncio.CancelledError:
            self._record.outcome = "cancelled"
            raise
        except Exception:
            log.exception("unexpected exception")
            await self._apologise()
        finally:
            self._log()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._record.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self._record.request_id
        await self._send(message)

    async def _leave(self, gone: ClientGoneError) -> None:
        """Cuts the connection. Closing it politely would wait for the client to take what it does not take."""
        self._record.outcome = gone.outcome
        abort = self._scope["state"].get("abort")
        if abort and isinstance(gone, ClientStalledError):
            abort()
            await self._receive()

    async def _apologise(self) -> None:
        response = error_response(GatewayError(ErrorCode.INTERNAL), self._record)
        if self._record.status is None:
            await response(self._scope, self._receive, self.send)

    def _log(self) -> None:
        # The template: a path may hold ids.
        route = getattr(self._scope.get("route"), "path", None)
        log.log(
            logging.DEBUG if route in _PROBES else logging.INFO,
            "request ended",
            method=self._scope["method"],
            route=route,
            status=self._record.status,
            outcome=self._record.outcome or "completed",
            duration_ms=self._record.elapsed_ms,
        )


def _request_id(headers: Headers) -> str:
    """The client's request id if it is one to log and to hand on, or a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _VALID_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

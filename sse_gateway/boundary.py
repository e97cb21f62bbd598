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

from sse_gateway import metrics, tracing
from sse_gateway.disconnect import Client, ClientGoneError
from sse_gateway.errors import ErrorCode, GatewayError, error_response
from sse_gateway.record import RequestRecord

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sse_gateway.lifecycle import Lifecycle
    from sse_gateway.sse import EventStream

log = structlog.get_logger(__name__)

REQUEST_ID = "x-request-id"
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: logged at DEBUG, and not counted among the requests."""
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_WORK = "/api/"
"""While the gateway drains, requests below this path are refused, and those that run are waited for."""


class RequestBoundary:
    """ASGI application around another, whose frames are gone by the time that it streams.

    To be served by `GatewayProtocol`, whose connections it finds in the scope's state.

    Args:
        app: What it is around.
        lifecycle: Is told what is being served.
        stall_seconds: How long a client may take nothing.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, stall_seconds: float) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(Headers(scope=scope)))
        scope["state"]["record"] = record
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=record.request_id)
        exchange = _Exchange(record, scope, receive, send, self._stall_seconds)
        if not scope["path"].startswith(_WORK):
            await exchange.run(self._app)
            return
        self._lifecycle.requests += 1
        try:
            with tracing.request(scope["method"], Headers(scope=scope), record) as span:
                try:
                    await exchange.run(self._app)
                finally:
                    tracing.request_ended(span, scope["method"], exchange.route, record)
        finally:
            self._lifecycle.requests -= 1


class _Exchange:
    """One request through the application."""

    __slots__ = ("_client", "_loop", "_receive", "_record", "_scope", "_send", "_stall_seconds", "_stream", "route")

    def __init__(self, record: RequestRecord, scope: Scope, receive: Receive, send: Send, stall_seconds: float) -> None:
        self._record = record
        self._scope = scope
        self._receive = receive
        self._send = send
        self._stall_seconds = stall_seconds
        self._loop = asyncio.get_running_loop()
        self._stream: EventStream | None = None
        self._client = Client.of(scope)
        scope["state"]["hand_over"] = self._take_over
        self.route: str | None = None

    async def run(self, app: ASGIApp) -> None:
        try:
            await self._through(app)
            if self._stream:
                await self._stream.run(self.send)
        except ClientGoneError:
            self._record.outcome = self._record.outcome or "client_gone"
        except asyncio.CancelledError:
            self._record.outcome = "cancelled"
            raise
        except Exception:  # the boundary: no reply tells of it any more, the server cuts what is not whole
            log.exception("unexpected exception")
            self._record.outcome = self._record.outcome or ErrorCode.INTERNAL
        finally:
            # In a cycle with us the stream, and its compressor, would stay until the next full collection.
            stream, self._stream = self._stream, None
            del self._scope["state"]["hand_over"]
            if stream:
                await stream.aclose()
            self._give_back()
            self._log()

    async def _through(self, app: ASGIApp) -> None:
        # A copy: what the framework puts into it would be kept for as long as the answer streams.
        scope = dict(self._scope)
        try:
            await app(scope, self._receive, self.send)
        finally:
            # The template: a path may hold ids.
            self.route = getattr(scope.get("route"), "path", None)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._record.request_id
            headers.update(self._record.headers)
        elif not message.get("more_body"):
            # Before the client knows: it may ask again at once, and is to find its slot free.
            self._give_back()
        if not self._client.paused:
            await self._send(message)
            return
        # A server's `send` waits while the client takes nothing.
        timer = self._loop.call_later(self._stall_seconds, self._cut)
        try:
            await self._send(message)
        finally:
            timer.cancel()

    def _give_back(self) -> None:
        for give_back in self._record.at_end:
            give_back()
        self._record.at_end.clear()

    def _take_over(self, stream: EventStream) -> None:
        self._stream = stream
        # Nobody reads them any more, and the connection would keep them for as long as the answer streams.
        self._scope["headers"] = []
        metrics.FIRST_EVENT.observe(self._record.elapsed_ms / 1000)

    def _cut(self) -> None:
        """Ends the connection. Closing it politely would wait for the client to take what it does not take."""
        self._record.outcome = self._record.outcome or "client_stalled"
        self._client.abort()

    def _log(self) -> None:
        if self.route not in _PROBES:
            metrics.request_ended(self.route, self._record)
        log.log(
            logging.DEBUG if self.route in _PROBES else logging.INFO,
            "request ended",
            method=self._scope["method"],
            route=self.route,
            status=self._record.status,
            outcome=self._record.outcome or "completed",
            answer_id=self._record.answer_id,
            duration_ms=self._record.elapsed_ms,
        )


class Refusals:
    """ASGI middleware: what it replies is to be read by pages of other origins too, and so CORS is around it.

    Args:
        app: What it wraps.
        lifecycle: Tells whether the gateway drains.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._lifecycle.draining and scope["path"].startswith(_WORK):
            await _refuse(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        record: RequestRecord = scope["state"]["record"]
        try:
            await self._app(scope, receive, send)
        except ClientGoneError:
            record.outcome = record.outcome or "client_gone"
        except Exception:  # a boundary of its own: CORS is to be around the reply that tells of it
            log.exception("unexpected exception")
            response = error_response(GatewayError(ErrorCode.INTERNAL), record)
            if record.status is None:
                await response(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a gateway that drains. It closes the connection, so that the next request goes elsewhere."""
    response = error_response(GatewayError(ErrorCode.DRAINING), scope["state"]["record"])
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


def _request_id(headers: Headers) -> str:
    """The client's request id if it is one to log and to hand on, or a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _VALID_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

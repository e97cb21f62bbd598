"""The ASGI application: routes, handlers, lifespan."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from sse_gateway import answers, chat, health, metrics, openapi
from sse_gateway.auth import authenticator
from sse_gateway.boundary import Refusals, RequestBoundary
from sse_gateway.cors import allow_origins
from sse_gateway.dependencies import Parts
from sse_gateway.errors import ErrorCode, GatewayError, error_response
from sse_gateway.limits import student_limits
from sse_gateway.live import NothingNewError
from sse_gateway.record import RequestRecord
from sse_gateway.uploads import UploadMemory
from sse_gateway.web_pages import add_web_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.types import Receive, Scope, Send

    from sse_gateway.engine import EngineClient
    from sse_gateway.lifecycle import Lifecycle
    from sse_gateway.settings import GatewaySettings


class Gateway(FastAPI):
    """FastAPI in a `RequestBoundary`, whose OpenAPI document also has what `sse_gateway.openapi` refers to.

    Args:
        lifecycle: See `RequestBoundary`.
        stall_seconds: See `RequestBoundary`.
        options: FastAPI's.
    """

    def __init__(self, lifecycle: Lifecycle, stall_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._boundary = RequestBoundary(super().__call__, lifecycle, stall_seconds)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Serves; see the ASGI specification."""
        return self._boundary(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document; see https://fastapi.tiangolo.com/how-to/extending-openapi."""
        if not self.openapi_schema:
            document = super().openapi()
            document["components"]["schemas"] |= openapi.own_schemas()
            if self.state.parts.authenticator:
                openapi.ask_for_tokens(document)
        return super().openapi()


def create_app(settings: GatewaySettings, engine: EngineClient, lifecycle: Lifecycle) -> FastAPI:
    """Returns the application.

    Args:
        settings: The gateway's.
        engine: Entered and left with the application's lifespan.
        lifecycle: Whoever runs the application tells it there when it drains.
    """
    app = _bare(lifecycle, settings.write_stall_timeout_seconds)
    app.state.parts = Parts(
        settings,
        engine,
        lifecycle,
        UploadMemory(settings.upload_memory_bytes),
        authenticator(settings),
        student_limits(settings),
    )
    _let_measure(app.state.parts)
    app.add_middleware(Refusals, lifecycle=lifecycle)
    if settings.cors_allow_origins:
        allow_origins(app, settings.cors_allow_origins)
    _add_exception_handlers(app)
    for routes in (chat, answers, health):
        # Not included: for each request FastAPI looks twice for the route of a router that is.
        app.router.routes.extend(routes.router.routes)
    _add_docs(app)
    add_web_client(app)
    return app


def _bare(lifecycle: Lifecycle, stall_seconds: float) -> Gateway:
    """Returns the application with nothing in it."""
    app = Gateway(
        lifecycle,
        stall_seconds,
        title=openapi.TITLE,
        version=version("studyai-chat"),
        # FastAPI's span would end, its metrics count, where an answer only begins to stream; see `sse_gateway.tracing`.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,
        redoc_url=None,
        # It would be made of the Host header, and lead from HTTPS to what a proxy was reached by.
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.openapi_version = "3.2.0"
    return app


def _let_measure(parts: Parts) -> None:
    metrics.LIVE.set_function(lambda: parts.lifecycle.requests)
    metrics.UPLOAD_BYTES.set_function(lambda: parts.uploads.held)
    metrics.UPLOADS_WAITING.set_function(lambda: parts.uploads.waiting)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    async with AsyncExitStack() as stack:
        lag = asyncio.create_task(metrics.measure_lag())
        stack.callback(lag.cancel)
        await stack.enter_async_context(parts.engine)
        await stack.enter_async_context(parts.limits)
        if parts.authenticator:
            await stack.enter_async_context(parts.authenticator)
        yield


def _add_docs(app: FastAPI) -> None:
    """Serves Swagger UI from here: FastAPI's own page loads it from the internet."""

    async def docs(_request: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="data:,",
        )

    app.add_route("/docs", docs, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_standalone_docs", "static/swagger")]))


def _add_exception_handlers(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(NothingNewError, _nothing_new)


async def _gateway_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    return error_response(error, RequestRecord.of(request))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Once each: several parts of a route may ask for the same header.
    sentence = "; ".join(dict.fromkeys(_fault(fault) for fault in error.errors()))
    return error_response(GatewayError(ErrorCode.INVALID_REQUEST, sentence), RequestRecord.of(request))


async def _nothing_new(_request: Request, _error: Exception) -> Response:
    return Response(status_code=204)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """For what the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    refusal = GatewayError(ErrorCode.INVALID_REQUEST, f"{error.detail}.")
    response = error_response(refusal, RequestRecord.of(request), status=error.status_code)
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """Returns those of all routes of a path: the router tells of the first one's (RFC 9110, section 15.5.6)."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    return {method for route in routes if route.path_regex.match(request.url.path) for method in route.methods or ()}


def _fault(fault: dict[str, Any]) -> str:
    """Says which member breaks which rule. The rule is pydantic's sentence, which does not quote the value."""
    member = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "json_invalid":
            return "The body is not JSON, or nested too deep, or it holds half of a surrogate pair."
        case "model_type" | "dict_type":
            return "The body is not a JSON object."
        case _:
            return f"{member}: {fault['msg']}."

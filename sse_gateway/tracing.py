"""Traces: a span for each request that works for somebody, and for each call to an engine, sent where a setting says.

They go over OTLP, and tell of places, durations and outcomes; never of what was asked or answered, nor who asked. The
engine's spans are below ours. Without the setting OpenTelemetry's API makes nothing of them, and what sends them is not
imported. Names of attributes are of OpenTelemetry's semantic conventions for HTTP, RPC and errors; all of them are in
this file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import contextmanager, nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from dotenv import dotenv_values
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    import grpc
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from sse_gateway.record import RequestRecord

SERVICE_NAME = "studyai-gateway"
_PARENT = "traceparent"
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
_tracer = trace.get_tracer(__name__)
# Its baggage is left alone: a client may put into it what nobody else is to know.
_propagator = TraceContextTextMapPropagator()


def configure_tracing(endpoint: str | None) -> Callable[[], None]:
    """Has spans sent from now on, if there is an endpoint, and returns what sends the last of them.

    Args:
        endpoint: The base URL of an OTLP/HTTP receiver (OTEL_EXPORTER_OTLP_ENDPOINT). Its headers, the sampler and
            whatever else the SDK reads from the environment, here from `.env` too, are as the OpenTelemetry
            specification says.
    """
    if endpoint is None:
        return lambda: None
    for name, value in dotenv_values(".env").items():
        if name.startswith("OTEL_") and value and not os.environ.get(name):
            os.environ[name] = value
    logging.getLogger("opentelemetry.util.re").addFilter(_without_header)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - reads them
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - reads them
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - reads them

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE_NAME)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def request(method: str, headers: Mapping[str, str], record: RequestRecord) -> AbstractContextManager[Span]:
    """The span of one request, which continues its client's trace (W3C Trace Context); log lines name the trace.

    Where there are no traces, a client's is handed on all the same; without one an open stream holds nothing for it.
    """
    return _NO_SPAN if _off() and _PARENT not in headers else _request(method, headers, record)


@contextmanager
def _request(method: str, headers: Mapping[str, str], record: RequestRecord) -> Iterator[Span]:
    with _tracer.start_as_current_span(
        method,
        _propagator.extract(headers),
        kind=trace.SpanKind.SERVER,
        attributes={"http.request.method": method, "studyai.request_id": record.request_id},
        # An exception's text may quote what must not be told.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        if span.is_recording():
            trace_id = trace.format_trace_id(span.get_span_context().trace_id)
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        yield span


def request_ended(span: Span, method: str, route: str | None, record: RequestRecord) -> None:
    """Notes what became of a request. A failure after the head is one too, though its status says 200."""
    if not span.is_recording():
        return
    if route:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if record.status:
        span.set_attribute("http.response.status_code", record.status)
    span.set_attribute("studyai.outcome", record.outcome or "completed")
    ours = record.status is None or record.status == HTTPStatus.OK or record.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if record.outcome and ours:
        span.set_attribute("error.type", record.outcome)
        span.set_status(trace.StatusCode.ERROR)


def traced(make: Any, method: str, target: str) -> Any:
    """Returns what makes calls, each with a span of its own, if there are traces; a client's is handed on in any case.

    Args:
        make: What makes them: a multi-callable of gRPC.
        method: The calls' full method, without a slash before it.
        target: Where they go, as gRPC names it. Its port is kept: it alone tells the engines of one machine apart.
    """
    if _off():
        return lambda request, *, metadata, **options: make(request, metadata=(*metadata, *_carrier()), **options)
    attributes = {"rpc.system.name": "grpc", "rpc.method": method, "server.address": target.rpartition("/")[2]}
    ending: set[asyncio.Task[None]] = set()

    def call(request: Any, *, metadata: tuple[tuple[str, str], ...], **options: Any) -> Any:
        span = _tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes)
        carried = _carrier(trace.set_span_in_context(span))
        made = make(request, metadata=(*metadata, *carried), **options)
        made.add_done_callback(lambda ended: _keep(ending, asyncio.ensure_future(_call_ended(span, ended))))
        return made

    return call


def _carrier(context: Context | None = None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata with which an engine continues a trace, by default the current one, if there is one."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return tuple(carrier.items())


async def _call_ended(span: Span, call: grpc.aio.Call) -> None:
    code = (await call.code()).name
    span.set_attribute("rpc.response.status_code", code)
    if code != "OK":
        # In a client's span every other code is one (semantic conventions for gRPC).
        span.set_attribute("error.type", code)
        span.set_status(trace.StatusCode.ERROR)
    span.end()


def _keep(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    """Keeps a task to its end, which the loop alone does not."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _off() -> bool:
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _without_header(record: logging.LogRecord) -> bool:
    """Tells of a header that cannot be read. OpenTelemetry quotes it, and it may be a key."""
    record.msg, record.args = "OTEL_EXPORTER_OTLP_HEADERS: what is not name=value is left out", ()
    return True

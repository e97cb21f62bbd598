"""Traces: one span for each request that works for somebody, sent over OTLP where a setting says where to.

They tell of places, durations and outcomes; never of what was asked or answered, nor who asked. The engine's spans are
below ours. Without the setting OpenTelemetry's API makes nothing of them, and what sends them is not imported. Names of
attributes are of OpenTelemetry's semantic conventions for HTTP and errors; all of them are in this file.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Span

    from sse_gateway.record import RequestRecord

SERVICE_NAME = "studyai-gateway"
_tracer = trace.get_tracer(__name__)
# Its baggage is left alone: a client may put into it what nobody else is to know.
_propagator = TraceContextTextMapPropagator()


def configure_tracing(endpoint: str | None) -> Callable[[], None]:
    """Has spans sent from now on, if there is an endpoint, and returns what sends the last of them.

    Args:
        endpoint: The base URL of an OTLP/HTTP receiver (OTEL_EXPORTER_OTLP_ENDPOINT). Its headers, the sampler and
            whatever else the SDK reads from the environment are as the OpenTelemetry specification says.
    """
    if endpoint is None:
        return lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - see above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE_NAME)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider.shutdown


@contextmanager
def request(method: str, headers: Mapping[str, str], record: RequestRecord) -> Iterator[Span]:
    """The span of one request, which continues its client's trace (W3C Trace Context); log lines name the trace."""
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


def metadata() -> tuple[tuple[str, str], ...]:
    """Returns the metadata with which an engine continues the trace; none, where there is no trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())

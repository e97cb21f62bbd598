"""Traces: one span for each call, and one for each request to a model, sent over OTLP where a setting says where to.

They tell of places, durations, outcomes and counts of tokens; never of what was asked or answered, nor who asked.
Without the setting OpenTelemetry's API makes nothing of them, and what sends them is not imported. Names of attributes
are of OpenTelemetry's semantic conventions for GenAI, RPC and errors; all of them are in this file.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import structlog
from dotenv import dotenv_values
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from engine_grpc.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span

    from engine_grpc.model import Done

SERVICE_NAME = "studyai-engine"
_PARENT = "traceparent"
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
_SERVERS_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""The others are their caller's (semantic conventions for gRPC)."""
_tracer = trace.get_tracer(__name__)
# Its baggage is left alone: a caller may put into it what nobody else is to know.
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


def call(method: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> AbstractContextManager[Span]:
    """The span of one call, which continues its caller's trace (W3C Trace Context); log lines name the trace.

    Where there are no traces, a caller's is handed on all the same; without one an open stream holds nothing for it.
    """
    told = {name: value for name, value in metadata or () if isinstance(value, str)}
    return _NO_SPAN if _off() and _PARENT not in told else _call(method, told)


@contextmanager
def _call(method: str, told: Mapping[str, str]) -> Iterator[Span]:
    with _tracer.start_as_current_span(
        method,
        _propagator.extract(told),
        kind=trace.SpanKind.SERVER,
        attributes={"rpc.system.name": "grpc", "rpc.method": method},
        # An exception's text may quote what must not be told.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        if span.is_recording():
            trace_id = trace.format_trace_id(span.get_span_context().trace_id)
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        yield span


def call_ended(span: Span, code: str) -> None:
    """Notes a call's status, by its name in gRPC."""
    span.set_attribute("rpc.response.status_code", code)
    if code in _SERVERS_FAULTS:
        failed(span, code)


@contextmanager
def asking(model: str, max_tokens: int) -> Iterator[Span]:
    """The span of a request to a model. Where the reply begins it is the reply's to end."""
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": max_tokens,
    }
    span = _tracer.start_span(f"chat {model}", kind=trace.SpanKind.CLIENT, attributes=attributes)
    try:
        yield span
    except BaseException as error:  # who is cancelled has a span to end, too
        failed(span, str(error.reason) if isinstance(error, EngineError) else type(error).__name__)
        span.end()
        raise


def headers(span: Span) -> dict[str, str]:
    """Returns the header that lets a server continue the trace; none, where there is no trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return {_PARENT: carrier[_PARENT]} if _PARENT in carrier else {}


def answered(span: Span, done: Done) -> None:
    """Notes how a model's answer ended well."""
    span.set_attribute("gen_ai.response.finish_reasons", [done.finish_reason.value])
    if done.usage:
        span.set_attribute("gen_ai.usage.input_tokens", done.usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", done.usage.completion_tokens)


def failed(span: Span, code: str) -> None:
    """Notes a failure by its code."""
    span.set_attribute("error.type", code)
    span.set_status(trace.StatusCode.ERROR)


def _off() -> bool:
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _without_header(record: logging.LogRecord) -> bool:
    """Tells of a header that cannot be read. OpenTelemetry quotes it, and it may be a key."""
    record.msg, record.args = "OTEL_EXPORTER_OTLP_HEADERS: what is not name=value is left out", ()
    return True

"""One trace from a client's request through both services to the model, as a collector receives it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests

from tests import upstream as up
from tests.end_to_end.conftest import Service, body
from tests.processes import clean_environment, free_port, running_engine_process, running_gateway_process
from tests.traces.collector import attributes, running_collector
from tests.upstream import running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.traces.collector import Collector

STREAM = "POST /api/ai/chat-image-stream"
CALL = "studyai.v1.ChatService/ChatImage"
CHAT = "chat gpt-5.4-mini"
CALLING = "calls " + CALL
"""The name that the tests have for a client's span, which is named as its server's."""
CLIENT = 3
"""Its kind, in OTLP."""
CLIENTS_SPAN = "b7ad6b7169203331"
WHOLE, BROKEN, REFUSED = (f"{number}af7651916cd43dd8448eb211c80319c" for number in range(3))
"""Ids of traces."""
ASKED = {"prompt": "canary?", "student_id": "canary-student", "session_id": "canary-session"}


@dataclass(frozen=True)
class Told:
    """What is there when three questions have been asked and the services have ended."""

    collector: Collector
    logs: str
    to_model: Mapping[str, str]
    """The headers of the first request to the model."""

    def spans(self, trace_id: str) -> dict[str, Span]:
        """A trace's spans by name, each of which is there once."""
        spans = [span for span in self.collector.spans if span.trace_id.hex() == trace_id]
        by_name = {CALLING if (span.name, span.kind) == (CALL, CLIENT) else span.name: span for span in spans}
        assert len(by_name) == len(spans)
        return by_name


@contextmanager
def traced_service(endpoint: str) -> Iterator[Service]:
    """The service, which sends its spans to `endpoint`: the last of them when it ends."""
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        engine = stack.enter_context(running_engine_process(upstream.base_url, **where))
        yield Service(upstream, engine, stack.enter_context(running_gateway_process(engine, port=0, **where)))


def ask(service: Service, trace_id: str, **fields: str) -> requests.Response:
    headers = {
        "traceparent": f"00-{trace_id}-{CLIENTS_SPAN}-01",
        "tracestate": "vendor=canary",
        "baggage": "student=canary",
        "x-request-id": trace_id,
    }
    return requests.post(service.stream_url, json=body(**{**ASKED, **fields}), headers=headers, timeout=10)


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with running_collector() as collector:
        with traced_service(collector.url) as service:
            service.upstream.script(up.stream_headers(), up.chunk("canary"), up.finish(), up.usage(7, 1), up.done())
            service.upstream.script(up.stream_headers(), up.chunk("canary"), up.reset())
            assert '"type":"end"' in ask(service, WHOLE).text
            assert "UPSTREAM_TRUNCATED" in ask(service, BROKEN).text
            assert ask(service, REFUSED, subject="x" * 1000).status_code == 400
            to_model = service.upstream.requests[0].headers
        # Both have ended: the last line has been copied, too.
        yield Told(collector, service.gateway.log + service.engine.log, to_model)


def test_one_trace_goes_from_the_clients_through_both_services_to_the_model(told: Told) -> None:
    spans = told.spans(WHOLE)
    assert set(spans) == {STREAM, CALLING, CALL, CHAT}
    assert spans[STREAM].parent_span_id.hex() == CLIENTS_SPAN
    assert spans[CALLING].parent_span_id == spans[STREAM].span_id
    assert spans[CALL].parent_span_id == spans[CALLING].span_id
    assert spans[CHAT].parent_span_id == spans[CALL].span_id
    assert told.collector.services == {"studyai-gateway", "studyai-engine"}


def test_model_is_told_the_trace_and_nothing_else_that_the_client_handed_on(told: Told) -> None:
    assert told.to_model["traceparent"] == f"00-{WHOLE}-{told.spans(WHOLE)[CHAT].span_id.hex()}-01"
    assert not {"tracestate", "baggage"} & {name.lower() for name in told.to_model}


def test_every_log_line_of_a_request_names_its_trace(told: Told) -> None:
    lines = [json.loads(line) for line in told.logs.splitlines()]
    of_trace = [line for line in lines if line.get("request_id") == WHOLE]
    assert {line["event"] for line in of_trace} >= {"request ended", "call ended", "answer ended"}
    assert {line["trace_id"] for line in of_trace} == {WHOLE}


def test_spans_tell_what_an_answer_cost_and_how_it_ended(told: Told) -> None:
    request, calling, chat = (attributes(told.spans(WHOLE)[name]) for name in (STREAM, CALLING, CHAT))
    assert (calling["rpc.system.name"], calling["rpc.method"]) == ("grpc", CALL)
    assert calling["rpc.response.status_code"] == "OK"
    assert str(calling["server.address"]).startswith("127.0.0.1:")
    assert (request["studyai.outcome"], request["http.response.status_code"]) == ("completed", 200)
    assert request["studyai.request_id"] == WHOLE
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (7, 1)
    assert chat["gen_ai.response.finish_reasons"] == ["stop"]
    assert [event.name for event in told.spans(WHOLE)[CHAT].events] == ["first token"]


def test_spans_hold_no_word_of_what_was_asked_and_answered_nor_who_asked(told: Told) -> None:
    for span in told.collector.spans:
        span.trace_state = ""  # the client's own word to who collects its traces
        assert "canary" not in str(span)


def test_answer_that_breaks_off_is_an_error_in_every_span(told: Told) -> None:
    spans = told.spans(BROKEN)
    assert attributes(spans[STREAM])["error.type"] == attributes(spans[CHAT])["error.type"] == "UPSTREAM_TRUNCATED"
    assert attributes(spans[CALL])["error.type"] == attributes(spans[CALLING])["error.type"] == "UNAVAILABLE"
    assert {span.status.code for span in spans.values()} == {2}


def test_refused_question_is_no_error_of_the_service(told: Told) -> None:
    (span,) = told.spans(REFUSED).values()
    assert attributes(span)["http.response.status_code"] == 400
    assert span.status.code == 0


def test_collector_that_is_not_there_holds_up_no_answer() -> None:
    with traced_service(f"http://127.0.0.1:{free_port()}") as service:
        assert '"type":"end"' in ask(service, WHOLE).text
        assert service.gateway.stop() == 0
        assert service.engine.stop() == 0


@pytest.mark.parametrize("module", ["engine_grpc", "sse_gateway"])
def test_without_an_endpoint_what_sends_spans_is_not_even_imported(module: str) -> None:
    code = f"import sys, {module}.__main__; print([m for m in sys.modules if m.startswith('opentelemetry.exporter')])"
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize("module", ["engine_grpc", "sse_gateway"])
def test_variables_of_opentelemetry_are_read_from_dotenv_where_the_environment_has_none(
    module: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "OTEL_SERVICE_NAME=mine\nOTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test\n"
        "OTEL_TRACES_SAMPLER=traceidratio\nOTEL_TRACES_SAMPLER_ARG=0.5\nOPENAI_API_KEY=canary\n"
    )
    code = (
        f"import os; from {module}.tracing import configure_tracing; configure_tracing('http://127.0.0.1:9')\n"
        "from opentelemetry.trace import get_tracer_provider as provider\n"
        "told = provider().resource.attributes\n"
        "print(told['service.name'], told['deployment.environment.name'], provider().sampler.get_description())\n"
        "print(os.environ.get('OPENAI_API_KEY'))"
    )
    environment = clean_environment(OTEL_TRACES_SAMPLER_ARG="0.25")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "mine test TraceIdRatioBased{0.25}\nNone\n"


@pytest.mark.parametrize("module", ["engine_grpc", "sse_gateway"])
def test_header_for_the_collector_that_cannot_be_read_is_told_and_not_quoted(module: str) -> None:
    code = (
        f"from {module}.log import configure_logging; configure_logging('info', 'json')\n"
        f"from {module}.tracing import configure_tracing; configure_tracing('http://127.0.0.1:9')"
    )
    environment = clean_environment(OTEL_EXPORTER_OTLP_HEADERS="authorization canary")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "OTEL_EXPORTER_OTLP_HEADERS: what is not name=value is left out" in done.stderr
    assert "canary" not in done.stderr


def test_question_that_goes_on_at_another_engine_has_a_span_for_each_call() -> None:
    with running_collector() as collector, ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        engines = [
            stack.enter_context(running_engine_process(upstream.base_url, MAX_CONCURRENT_ANSWERS="1")) for _ in range(2)
        ]
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        gateway = stack.enter_context(running_gateway_process(*engines, port=0, **where))
        service = Service(upstream, engines[0], gateway)
        upstream.script(up.stream_headers(), up.chunk("So "), up.silence())
        with requests.post(service.stream_url, json=body(), stream=True, timeout=10) as held:
            lines = held.iter_lines()
            assert next(lines)  # kept: what is collected closes the connection
            for _ in range(4):
                assert '"type":"end"' in ask(service, WHOLE).text
        unknown = f"{service.url}/api/ai/answers/{32 * '0'}"
        assert requests.delete(unknown, timeout=5).status_code == 404
        gateway.stop()
    calls = [span for span in collector.spans if span.kind == CLIENT]
    codes = [str(attributes(span)["rpc.response.status_code"]) for span in calls]
    assert {"OK", "UNAVAILABLE", "NOT_FOUND", "CANCELLED"} == set(codes)
    refused = calls[codes.index("UNAVAILABLE")]
    beside = [attributes(span) for span in calls if span.parent_span_id == refused.parent_span_id]
    assert [call["rpc.response.status_code"] for call in beside] == ["UNAVAILABLE", "OK"]
    assert len({call["server.address"] for call in beside}) == 2


def test_service_without_traces_hands_a_clients_trace_on() -> None:
    with running_collector() as collector, ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        engine = stack.enter_context(
            running_engine_process(upstream.base_url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        )
        service = Service(upstream, engine, stack.enter_context(running_gateway_process(engine)))
        assert '"type":"end"' in ask(service, WHOLE).text
        engine.stop()
    parents = {span.name: span.parent_span_id.hex() for span in collector.spans}
    assert parents[CALL] == CLIENTS_SPAN


@pytest.mark.parametrize("begin", ["engine_grpc.tracing import call", "sse_gateway.tracing import request"])
def test_open_stream_holds_no_memory_for_traces_that_are_not_made(begin: str) -> None:
    arguments = "'m', ()" if "call" in begin else "'POST', {}, None"
    code = (
        f"import tracemalloc; from {begin} as begin\n"
        "tracemalloc.start(); before = tracemalloc.get_traced_memory()[0]\n"
        f"spans = [begin({arguments}) for _ in range(1000)]\n"
        "[span.__enter__() for span in spans]\n"
        "print((tracemalloc.get_traced_memory()[0] - before) / 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, check=True)
    assert float(done.stdout) < 50  # a place in two lists

"""Every metric of the gateway, in Prometheus' words. Labels have few values: templates of routes, codes, no id."""

from __future__ import annotations

import asyncio
import platform
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from sse_gateway.errors import RULES, ErrorCode

if TYPE_CHECKING:
    from sse_gateway.record import RequestRecord

REGISTRY = CollectorRegistry()
for collector in (ProcessCollector, PlatformCollector, GCCollector):
    collector(registry=REGISTRY)
# When a counter was made is a series more for each, of use to nobody here.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library declares no type for it
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_LAG_PERIOD_SECONDS = 0.5

REQUESTS = Counter(
    "studyai_http_requests",
    "Requests by route, HTTP status (0: none was sent) and outcome: `completed`, an error's code, or `client_gone`, "
    "`client_stalled`, `cancelled`.",
    ["route", "status", "outcome"],
    registry=REGISTRY,
)
DURATION = Histogram(
    "studyai_http_request_duration_seconds",
    "From a request's head to its response's end.",
    ["route"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
FIRST_EVENT = Histogram(
    "studyai_stream_first_event_seconds", "From a stream's request to its `start`.", buckets=_SECONDS, registry=REGISTRY
)
RESUMES = Counter(
    "studyai_streams_resumed", "Streams that went on behind an event that their client had seen.", registry=REGISTRY
)
LIVE = Gauge("studyai_http_requests_live", "Requests being served, probes left out.", registry=REGISTRY)
UPLOAD_BYTES = Gauge("studyai_upload_bytes", "Of questions in memory that no engine has taken yet.", registry=REGISTRY)
UPLOADS_WAITING = Gauge("studyai_uploads_waiting", "Uploads that wait for memory.", registry=REGISTRY)
ENGINE_CALLS = Counter(
    "studyai_engine_calls", "Calls to engines, each attempt, by how they ended.", ["code"], registry=REGISTRY
)
REDIS_FAILURES = Counter("studyai_redis_failures", "Commands that Redis did not answer, or refused.", registry=REGISTRY)
LAG = Histogram("studyai_event_loop_lag_seconds", "How late the event loop is.", buckets=_LAG, registry=REGISTRY)
BUILD = Gauge(
    "studyai_build_info", "1; what runs is in the labels.", ["service", "version", "python"], registry=REGISTRY
)
BUILD.labels("gateway", version("studyai-chat"), platform.python_version()).set(1)
_STREAMS, _FALLBACKS = (tuple(f"/api/{area}/chat-image{kind}" for area in ("ai", "v1")) for kind in ("-stream", ""))
_AFTER_START = (
    *(code for code in ErrorCode if code.startswith("UPSTREAM_")),
    *(ErrorCode.DEADLINE_EXCEEDED, ErrorCode.DRAINING, ErrorCode.ENGINE_UNAVAILABLE, ErrorCode.INTERNAL),
)
_ENDS = ("completed", "client_gone", "client_stalled")


def _expect() -> None:
    """Has what becomes of questions counted from 0: of a series that begins with 1, `rate()` does not see the 1."""
    for route in (*_STREAMS, *_FALLBACKS):
        DURATION.labels(route)
        REQUESTS.labels(route, 0, "client_gone")  # before its status was known
        for code, rule in RULES.items():
            REQUESTS.labels(route, rule.status, code)
        for outcome in (*_ENDS, *(_AFTER_START if route in _STREAMS else ())):
            REQUESTS.labels(route, HTTPStatus.OK.value, outcome)
    for status, outcome in ((200, "completed"), (202, "completed"), (204, "completed"), (404, "ANSWER_NOT_FOUND")):
        REQUESTS.labels("/api/ai/answers/{answer_id}", status, outcome)
    for code in ("OK", *ErrorCode):
        ENGINE_CALLS.labels(code)


_expect()


def request_ended(route: str | None, record: RequestRecord) -> None:
    """Counts a request. All that no route was found for are of one."""
    route = route or "none"
    REQUESTS.labels(route, record.status or 0, record.outcome or "completed").inc()
    DURATION.labels(route).observe(record.elapsed_ms / 1000)


async def measure_lag() -> None:
    """Measures the running loop's lag until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_PERIOD_SECONDS
        await asyncio.sleep(_LAG_PERIOD_SECONDS)
        LAG.observe(max(0.0, loop.time() - due))

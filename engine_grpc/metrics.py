"""Every metric of the engine, in Prometheus' words. Labels have few values: no id, no model's name, no student.

What comes once for each token is counted in plain lists here, and told when Prometheus asks: see `TokenTimings`.
"""

from __future__ import annotations

import asyncio
import platform
from bisect import bisect_left
from contextlib import contextmanager
from importlib.metadata import version
from itertools import accumulate
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
    start_http_server,
)
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

from engine_grpc.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTRY = CollectorRegistry()
for collector in (ProcessCollector, PlatformCollector, GCCollector):
    collector(registry=REGISTRY)
# When a counter was made is a series more for each, of use to nobody here.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library declares no type for it
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_GAPS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_LAG_PERIOD_SECONDS = 0.5

STARTED = Counter("studyai_answers_started", "Answers that a model was asked for.", registry=REGISTRY)
ENDED = Counter(
    "studyai_answers_ended", "Answers by how they ended; `code` is an error's.", ["outcome", "code"], registry=REGISTRY
)
DURATION = Histogram(
    "studyai_answer_duration_seconds", "From the question to the answer's end.", buckets=_SECONDS, registry=REGISTRY
)
FIRST_TOKEN = Histogram(
    "studyai_answer_first_token_seconds", "From the question to its first token.", buckets=_SECONDS, registry=REGISTRY
)
READERS = Histogram(
    "studyai_answer_readers", "The most that read one answer at once.", buckets=(0, 1, 2, 3, 5, 10), registry=REGISTRY
)
TOKENS = Counter(
    "studyai_tokens", "Tokens of answers that ended well: `prompt` or `completion`.", ["kind"], registry=REGISTRY
)
JOINS = Counter("studyai_answers_joined", "Questions whose key named an answer that was there.", registry=REGISTRY)
RESUMES = Counter("studyai_answers_resumed", "Answers that somebody came back to.", registry=REGISTRY)
CALLS = Counter("studyai_calls", "gRPC calls by how they ended.", ["method", "code"], registry=REGISTRY)
LIVE_ANSWERS = Gauge("studyai_answers_live", "Answers being written.", registry=REGISTRY)
LIVE_CALLS = Gauge("studyai_calls_live", "gRPC calls being served.", registry=REGISTRY)
ROOM = Gauge(
    "studyai_answers_limit", "How many answers may be written at once (MAX_CONCURRENT_ANSWERS).", registry=REGISTRY
)
ATTEMPTS = Counter(
    "studyai_upstream_attempts",
    "Requests to a model, by its place and what came.",
    ["upstream", "code"],
    registry=REGISTRY,
)
REDIS_FAILURES = Counter("studyai_redis_failures", "Commands that Redis did not answer, or refused.", registry=REGISTRY)
LAG = Histogram("studyai_event_loop_lag_seconds", "How late the event loop is.", buckets=_LAG, registry=REGISTRY)
BUILD = Gauge(
    "studyai_build_info", "1; what runs is in the labels.", ["service", "version", "python"], registry=REGISTRY
)
BUILD.labels("engine", version("studyai-chat"), platform.python_version()).set(1)


def _expect() -> None:
    """Begins the series of tokens and attempts at 0: `rate()` does not see the first count of one that begins at 1."""
    for kind in ("prompt", "completion"):
        TOKENS.labels(kind)
    for place in ("primary", "fallback"):
        for code in ("OK", *(reason for reason in Reason if reason.startswith("UPSTREAM_"))):
            ATTEMPTS.labels(place, str(code))


_expect()


class _Gaps(Collector):
    """A histogram for what comes with every token: one count takes a quarter of a microsecond."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_GAPS) + 1)
        self._sum = 0.0

    def note(self, seconds: float) -> None:
        """Counts one gap."""
        self._counts[bisect_left(_GAPS, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """See `prometheus_client.registry.Collector`."""
        bounds = [*map(str, _GAPS), "+Inf"]
        family = HistogramMetricFamily("studyai_answer_token_gap_seconds", "Between two pieces of a model's text.")
        family.add_metric([], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)
        yield family


_gaps = _Gaps()
REGISTRY.register(_gaps)


class TokenTimings:
    """When the first of one answer's text comes, and how long after each other the rest does.

    Args:
        began: When the question came, in the loop's time.
    """

    __slots__ = ("_began", "_last")

    def __init__(self, began: float) -> None:
        self._began = began
        self._last: float | None = None

    def text(self, now: float) -> None:
        """Notes that a piece of it has come."""
        if self._last is None:
            FIRST_TOKEN.observe(now - self._began)
        else:
            _gaps.note(now - self._last)
        self._last = now


async def measure_lag() -> None:
    """Measures the running loop's lag until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_PERIOD_SECONDS
        await asyncio.sleep(_LAG_PERIOD_SECONDS)
        LAG.observe(max(0.0, loop.time() - due))


@contextmanager
def served(host: str, port: int | None) -> Iterator[None]:
    """Serves `/metrics` over HTTP from a thread of its own, if there is a port.

    Raises:
        OSError: The address cannot be listened on.
    """
    if port is None:
        yield
        return
    server, thread = start_http_server(port, host, REGISTRY)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

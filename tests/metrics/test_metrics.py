"""What both services count, scraped from the running processes."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.metrics.service import Measured, measured_service

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
STREAM = '{outcome="%s",route="/api/ai/chat-image-stream",status="%d"}'
COUNTED = {
    "studyai_answers_started_total": 3,
    'studyai_answers_ended_total{code="",outcome="completed"}': 1,
    'studyai_answers_ended_total{code="UPSTREAM_TRUNCATED",outcome="upstream_error"}': 1,
    'studyai_answers_ended_total{code="",outcome="client_gone"}': 1,
    "studyai_answer_duration_seconds_count": 3,
    "studyai_answer_first_token_seconds_count": 3,
    "studyai_answer_readers_count": 3,
    'studyai_tokens_total{kind="prompt"}': 7,
    'studyai_tokens_total{kind="completion"}': 2,
    "studyai_answers_joined_total": 1,
    "studyai_answers_resumed_total": 1,
    "studyai_answers_live": 0,
    "studyai_answers_limit": 1000,
    'studyai_upstream_attempts_total{code="OK",upstream="primary"}': 3,
    'studyai_calls_total{code="UNAVAILABLE",method="ChatImage"}': 1,
    "studyai_http_requests_total" + STREAM % ("completed", 200): 1,
    "studyai_http_requests_total" + STREAM % ("UPSTREAM_TRUNCATED", 200): 1,
    "studyai_http_requests_total" + STREAM % ("INVALID_REQUEST", 400): 1,
    "studyai_http_requests_total" + STREAM % ("client_gone", 200): 1,
    'studyai_http_requests_total{outcome="completed",route="/api/ai/chat-image",status="200"}': 1,
    "studyai_streams_resumed_total": 1,
    "studyai_http_requests_live": 0,
    "studyai_upload_bytes": 0,
    "studyai_uploads_waiting": 0,
    'studyai_engine_calls_total{code="OK"}': 3,
}


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    with measured_service() as measured:
        measured.ask_in_all_ways()
        yield measured


def settled(measured: Measured) -> dict[str, float]:
    """The metrics, once the client that left is counted."""
    until = time.monotonic() + 5
    while True:
        metrics = measured.metrics()
        if metrics.get("studyai_http_requests_total" + STREAM % ("client_gone", 200)) or time.monotonic() > until:
            return metrics


def test_all_that_became_of_questions_is_counted(measured: Measured) -> None:
    metrics = settled(measured)
    assert {series: metrics.get(series) for series in COUNTED} == COUNTED


def test_gaps_between_tokens_are_counted_for_all_pieces_but_the_first(measured: Measured) -> None:
    metrics = settled(measured)
    buckets = [
        value for series, value in metrics.items() if series.startswith("studyai_answer_token_gap_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == metrics["studyai_answer_token_gap_seconds_count"]


def test_documents_name_every_metric_and_no_other(measured: Measured) -> None:
    served = {re.sub(r"(_bucket|_count|_sum)?(\{.*)?$", "", series) for series in settled(measured)}
    documented = set(re.findall(r"^\| `(studyai_\w+)`", DOCS.read_text(), re.MULTILINE))
    assert {name for name in served if name.startswith("studyai_")} == documented


def test_labels_hold_nothing_of_who_asked_what(measured: Measured) -> None:
    assert not [series for series in settled(measured) if "canary" in series or "anonymous" in series or "x?" in series]

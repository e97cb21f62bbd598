"""What both services count, scraped from the running processes."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests

from tests.metrics.service import Measured, measured_service
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
STREAM = '{outcome="%s",route="/api/ai/chat-image-stream",status="%d"}'
CLIENT_GONE = 'studyai_answers_ended_total{code="",outcome="client_gone"}'
COUNTED = {
    "studyai_answers_started_total": 3,
    'studyai_answers_ended_total{code="",outcome="completed"}': 1,
    'studyai_answers_ended_total{code="UPSTREAM_TRUNCATED",outcome="upstream_error"}': 1,
    CLIENT_GONE: 1,
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


LEFT = ["studyai_http_requests_total" + STREAM % ("client_gone", 200), CLIENT_GONE]


def settled(measured: Measured) -> dict[str, float]:
    """The metrics, once both services have counted the client that left: each does when it notices."""
    metrics: dict[str, float] = {}

    def all_counted() -> bool:
        metrics.update(measured.metrics())
        return all(metrics.get(series) for series in LEFT)

    eventually(all_counted, told=lambda: metrics)
    return metrics


def test_all_that_became_of_questions_is_counted(measured: Measured) -> None:
    metrics = settled(measured)
    assert {series: metrics.get(series) for series in COUNTED} == COUNTED


@pytest.mark.parametrize(
    "series",
    [
        "studyai_http_requests_total" + STREAM % ("DRAINING", 200),
        "studyai_http_requests_total" + STREAM % ("ENGINE_UNAVAILABLE", 200),
        "studyai_http_requests_total" + STREAM % ("client_gone", 0),
        'studyai_answers_ended_total{code="ENGINE_UNAVAILABLE",outcome="engine_lost"}',
        'studyai_answers_ended_total{code="INTERNAL",outcome="internal_error"}',
    ],
)
def test_outcome_is_counted_from_0_before_it_happens(measured: Measured, series: str) -> None:
    assert measured.metrics()[series] == 0


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


def test_labels_have_no_value_that_a_stranger_chose(measured: Measured) -> None:
    before = set(settled(measured))
    url = measured.service.url
    for number in range(20):
        requests.get(f"{url}/stranger/{number}", timeout=5)
        requests.get(f"{url}/api/ai/answers/stranger{number}", timeout=5)
        requests.get(f"{url}/web/stranger{number}.js", timeout=5)
        requests.request(f"STRANGER{number}", f"{url}/api/ai/chat-image-stream", timeout=5)
        requests.post(
            f"{url}/api/ai/chat-image", data=b"stranger", headers={"x-request-id": f"stranger{number}"}, timeout=5
        )
        with socket.create_connection(("127.0.0.1", measured.service.gateway.port), timeout=5) as client:
            client.sendall(f"STRANGER{number} \0 HTTP/9\r\n\r\n".encode())
            client.recv(1000)
    with grpc.insecure_channel(f"127.0.0.1:{measured.service.engine.port}") as channel:
        for number in range(20):
            for method in (f"/stranger.v1.Service{number}/Ask", f"/studyai.v1.ChatService/Stranger{number}"):
                call: Any = channel.unary_unary(method)
                with pytest.raises(grpc.RpcError):
                    call(b"stranger", timeout=5)
    added = set(measured.metrics()) - before
    assert not [series for series in added if "stranger" in series.lower()]
    assert len({series for series in added if "_bucket" not in series}) < 20

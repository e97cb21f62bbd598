"""The rules and the dashboard of deploy/, tried with Debian's Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests import upstream as up
from tests.end_to_end.conftest import body, tool
from tests.metrics.service import ask_and_leave, measured_service
from tests.processes import Process, free_port, running_engine_process, running_gateway_process
from tests.redis_server import running_redis
from tests.upstream import running_upstream
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
OPERATIONS = DEPLOY.parent / "docs" / "operations.md"
PATIENCE_SECONDS = 30


def dashboard_queries() -> list[str]:
    panels = json.loads((DEPLOY / "grafana" / "studyai.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@contextmanager
def running_prometheus(folder: Path, targets: dict[str, list[int]]) -> Iterator[str]:
    """A Prometheus that scrapes these jobs' ports and evaluates our rules, all quickly; yields its URL."""
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        for name, ports in targets.items()
    ]
    intervals = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config = {"global": intervals, "rule_files": [str(RULES)], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def found(url: str, query: str) -> list[Any]:
    """The series that a query returns; none while Prometheus starts."""
    try:
        reply = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=5)
    except requests.ConnectionError:
        return []
    if reply.status_code == 503:
        return []
    assert reply.ok, (query, reply.text)
    series: list[Any] = reply.json()["data"]["result"]
    return series


def await_series(url: str, *queries: str) -> None:
    """Waits until every query has returned something."""
    missing = list(queries)

    def all_found() -> bool:
        missing[:] = [query for query in missing if not found(url, query)]
        return not missing

    eventually(all_found, PATIENCE_SECONDS, lambda: missing)


def await_scrapes(url: str, targets: int) -> None:
    """Waits for two scrapes of each target, so that what is asked next is growth."""
    await_series(url, f"count(count_over_time(up[1m]) > 1 and up == 1) == {targets}")


def ask_at(gateway: Process, upstream: up.Upstream, round_: int) -> None:
    """Twelve requests: six streams, two resumed; of the rest a fallback that joins and one more, failures, a leaver."""
    url = f"http://127.0.0.1:{gateway.port}/api/ai"
    # A pause, or both would come as one piece, without a gap to be counted.
    pieces = (up.chunk("So "), up.pause(0.05), up.chunk("x."))
    whole = (up.stream_headers(), *pieces, up.finish(), up.usage(7, 2), up.done())
    for number in range(3):
        key = {"Idempotency-Key": f"{gateway.port}-{round_}-{number}"}
        upstream.script(*whole)
        streamed = requests.post(f"{url}/chat-image-stream", json=body(), headers=key, timeout=10).text
        assert '"type":"end"' in streamed
    (answer_id,) = re.findall(r'"answer_id":"(\w+)"', streamed)
    resuming = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    for _ in range(2):
        assert requests.get(f"{url}/answers/{answer_id}", headers=resuming, timeout=10).ok
    assert requests.post(f"{url}/chat-image", json=body(), headers=key, timeout=10).ok
    upstream.script(*whole)
    assert requests.post(f"{url}/chat-image", json=body(), timeout=10).ok
    for _ in range(2):
        upstream.script(up.stream_headers(), up.chunk("So "), up.reset())
        assert "UPSTREAM_TRUNCATED" in requests.post(f"{url}/chat-image-stream", json=body(), timeout=10).text
    upstream.script(up.refusal(401))
    assert "UPSTREAM_AUTH" in requests.post(f"{url}/chat-image-stream", json=body(), timeout=10).text
    assert requests.post(f"{url}/chat-image-stream", json={}, timeout=10).status_code == 400
    upstream.script(up.stream_headers(), up.chunk("So "), up.silence())
    ask_and_leave(gateway.port)
    upstream.requests[-1].closed.block()


FIGURES = {
    "studyai:start:ratio5m": 1.0,
    # Of four that ended well and three that broke off; who left does not count, nor who joined.
    "studyai:completion:ratio5m": 4 / 7,
    'studyai:errors:ratio5m{outcome="UPSTREAM_TRUNCATED"}': 2 / 12,
    'studyai:errors:ratio5m{outcome="UPSTREAM_AUTH"}': 1 / 12,
    'studyai:errors:ratio5m{outcome="INVALID_REQUEST"}': 1 / 12,
    'sum(studyai:errors:ratio5m{outcome!~"UPSTREAM_.+|INVALID_REQUEST"})': 0,
    "studyai:disconnects:ratio5m": 1 / 12,
    "studyai:fallback:ratio5m": 2 / 10,
    "studyai:upstream_failures:ratio5m": 1 / 8,
    "sum(studyai_answers_started_total)": 16,
    "sum(studyai_answers_joined_total)": 2,
    "sum(studyai_streams_resumed_total)": 4,
    "sum(studyai_answer_duration_seconds_count)": 16,
    "sum(studyai_answer_readers_count)": 16,
    "sum(studyai_answer_first_token_seconds_count)": 14,
    "sum(studyai_answer_token_gap_seconds_count)": 8,
    'sum(studyai_tokens_total{kind="completion"})': 16,
    "count(studyai_build_info)": 4,
    "count(studyai_event_loop_lag_seconds_count > 0)": 4,
    "sum(studyai_http_requests_live)": 0,
    "sum(studyai_answers_live)": 0,
}
"""What two gateways in front of two engines have counted when each has been asked `ask_at`."""


def test_figures_of_several_workers_are_what_was_done(tmp_path: Path) -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        shared = {"STATE_URL": stack.enter_context(running_redis()).url}
        ports = [free_port(), free_port()]
        engines = [
            stack.enter_context(running_engine_process(upstream.base_url, ENGINE_METRICS_PORT=str(port), **shared))
            for port in ports
        ]
        gateways = [stack.enter_context(running_gateway_process(*engines)) for _ in ports]
        targets = {"studyai-engine": ports, "studyai-gateway": [gateway.port for gateway in gateways]}
        url = stack.enter_context(running_prometheus(tmp_path, targets))
        await_scrapes(url, 4)
        for number, gateway in enumerate(gateways):
            ask_at(gateway, upstream, number)
        await_series(url, *(f"abs({query} - {figure}) < 0.02" for query, figure in FIGURES.items()))


@pytest.mark.parametrize("command", [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]])
def test_promtool_finds_nothing_wrong_with_the_rules(command: list[str]) -> None:
    done = subprocess.run(
        [tool("promtool"), *command], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_leads_to_what_to_do() -> None:
    rules = RULES.read_text()
    alerts = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
    tests = (RULES.parent / "rules_test.yml").read_text()
    headings = {line[3:].lower().replace(" ", "-") for line in OPERATIONS.read_text().splitlines() if line[:3] == "## "}
    assert [alert for alert in alerts if f"- name: {alert}" not in tests] == []
    assert {line.split("#")[1] for line in rules.splitlines() if "runbook:" in line} <= headings


def test_every_query_of_the_dashboard_returns_something_about_a_service_in_use(tmp_path: Path) -> None:
    with measured_service() as measured:
        ports = {"studyai-engine": [measured.engine_metrics_port], "studyai-gateway": [measured.service.gateway.port]}
        with running_prometheus(tmp_path, ports) as url:
            await_scrapes(url, 2)
            measured.ask_in_all_ways()
            await_series(url, *dashboard_queries(), "studyai:completion:ratio5m == 0.5")

"""The rules and the dashboard of deploy/, tried with Debian's Prometheus."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.end_to_end.conftest import tool
from tests.metrics.service import measured_service
from tests.processes import free_port

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
def running_prometheus(folder: Path, targets: dict[str, int]) -> Iterator[str]:
    """A Prometheus that scrapes these jobs' ports and evaluates our rules, all quickly; yields its URL."""
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in targets.items()
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


def await_series(url: str, queries: list[str]) -> list[str]:
    """Waits until every query returns something, and returns those that do not in time."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (missing := [query for query in queries if not found(url, query)]) and time.monotonic() < until:
        time.sleep(0.2)  # another process's doing, which tells no event
    return missing


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
        ports = {"studyai-engine": measured.engine_metrics_port, "studyai-gateway": measured.service.gateway.port}
        with running_prometheus(tmp_path, ports) as url:
            measured.ask_in_all_ways()
            assert not await_series(url, ["studyai_answers_ended_total", "studyai_streams_resumed_total > 0"])
            measured.ask_in_all_ways()
            assert await_series(url, dashboard_queries()) == []
            assert found(url, "studyai:completion:ratio5m")[0]["value"][1] == "0.5"

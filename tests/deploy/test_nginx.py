"""The service behind Debian's nginx, with the configuration of deploy/: nothing is buffered on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from sse_gateway.settings import GatewaySettings
from tests import upstream as up
from tests.certificates import Authority
from tests.end_to_end.conftest import Service, body, tool
from tests.processes import free_port, running_engine_process, running_gateway_process
from tests.upstream import Signal, running_upstream
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "studyai.conf"
DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deploy.md"
(TLS,) = re.findall(r"^```nginx\n(.*?)^```$", DEPLOYMENT.read_text(), re.MULTILINE | re.DOTALL)
AROUND = """
daemon off; pid {folder}/pid; error_log stderr warn; {user}
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{ours}
}}
"""


def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("nginx is not installed: `make setup` installs it")
    return found


@contextmanager
def running_nginx(folder: Path, gateway_port: int, added: str = "") -> Iterator[str]:
    """nginx in front of the gateway, as deployed but for names and ports; yields its URL."""
    port = free_port()
    ours = CONFIGURATION.read_text().replace("gateway:3000", f"127.0.0.1:{gateway_port}")
    ours = ours.replace("listen 80", f"{added}listen 127.0.0.1:{port}").replace("/var/log/nginx", str(folder))
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, ours=ours, user=user))
    with subprocess.Popen([nginx(), "-p", folder, "-c", folder / "nginx.conf"]) as process:
        try:
            eventually(lambda: is_up(f"http://127.0.0.1:{port}/healthz"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def proxied(folder: Path) -> Iterator[tuple[Service, str]]:
    with (
        running_upstream() as upstream,
        running_engine_process(upstream.base_url) as engine,
        running_gateway_process(engine, HEARTBEAT_SECONDS="0.2") as gateway,
        running_nginx(folder, gateway.port) as url,
    ):
        yield Service(upstream, engine, gateway), url


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_every_delta_is_read_before_the_next_is_let_out(proxied: tuple[Service, str], coding: str) -> None:
    service, url = proxied
    gates = [Signal() for _ in range(5)]
    steps = [step for gate in gates for step in (up.chunk("x"), up.gate(gate))]
    service.upstream.script(up.stream_headers(), *steps, up.finish(), up.done())
    headers = {"Accept-Encoding": coding}
    stream = f"{url}/api/ai/chat-image-stream"
    opening = iter(gates)
    with requests.post(stream, json=body(), headers=headers, stream=True, timeout=10) as response:
        assert response.headers.get("content-encoding", "identity") == coding
        lines = response.iter_lines(chunk_size=1)
        ended = False
        for line in lines:
            if b'"type":"content"' in line:
                next(opening).set()
            ended = ended or b'"type":"end"' in line
    assert ended
    assert all(gate.is_set() for gate in gates)


def test_heartbeats_pass_while_the_model_is_silent(proxied: tuple[Service, str]) -> None:
    service, url = proxied
    service.upstream.script(up.stream_headers(), up.chunk("x"), up.silence())
    with requests.post(f"{url}/api/ai/chat-image-stream", json=body(), stream=True, timeout=10) as response:
        assert any(line == b": keep-alive" for line in response.iter_lines(chunk_size=1))


def test_metrics_are_not_for_everybody(proxied: tuple[Service, str]) -> None:
    assert requests.get(f"{proxied[1]}/metrics", timeout=5).status_code == 404


def test_body_that_is_too_large_is_refused_in_the_services_words(proxied: tuple[Service, str]) -> None:
    _, url = proxied
    limit: int = GatewaySettings.model_fields["max_payload_bytes"].default
    reply = requests.post(f"{url}/api/ai/chat-image-stream", data=b" " * (limit + 1), timeout=5)
    assert (reply.status_code, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_log_names_the_request_and_the_app_and_no_student(proxied: tuple[Service, str], folder: Path) -> None:
    headers = {"User-Agent": "StudyApp/7.1"}
    with requests.get(f"{proxied[1]}/api/ai/answers/unknown?student_id=mia-7", headers=headers, timeout=5) as reply:
        request_id = reply.headers["X-Request-Id"]
    log = folder / "access.log"
    eventually(lambda: request_id in log.read_text())
    (line,) = [line for line in log.read_text().splitlines() if request_id in line]
    assert '"GET /api/ai/answers/unknown" 404' in line
    assert line.endswith(' "StudyApp/7.1"')
    assert "mia-7" not in log.read_text()


def test_client_that_leaves_stops_the_model(proxied: tuple[Service, str]) -> None:
    service, url = proxied
    service.upstream.forget()
    service.upstream.script(up.stream_headers(), up.chunk("x"), up.silence())
    with requests.post(f"{url}/api/ai/chat-image-stream", json=body(), stream=True, timeout=10) as response:
        next(line for line in response.iter_lines(chunk_size=1) if b'"type":"content"' in line)
    service.upstream.block_request(0).closed.block()


def test_over_http_2_and_tls_every_delta_is_read_before_the_next_is_let_out(proxied: tuple[Service, str]) -> None:
    service, _ = proxied
    gates = [Signal() for _ in range(5)]
    steps = [step for gate in gates for step in (up.chunk("x"), up.gate(gate))]
    service.upstream.script(up.stream_headers(), *steps, up.finish(), up.done())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ca.pem").write_bytes((authority := Authority()).pem)
        certificate, key = authority.issue("localhost").write(folder, "proxy")
        port = free_port()
        # What docs/deploy.md says to add for TLS.
        added = TLS.replace("443", f"127.0.0.1:{port}").replace("/etc/nginx/studyai.pem", str(certificate))
        added = added.replace("/etc/nginx/studyai.key", str(key))
        with running_nginx(folder, service.gateway.port, added):
            curl = [tool("curl"), "-sN", "--http2", "--cacert", str(folder / "ca.pem"), "-w", "HTTP/%{http_version}"]
            asked = ["--json", json.dumps(body()), f"https://localhost:{port}/api/ai/chat-image-stream"]
            opening = iter(gates)
            with subprocess.Popen([*curl, *asked], stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    if '"type":"content"' in line:
                        next(opening).set()
    assert all(gate.is_set() for gate in gates)
    assert '"type":"end"' in lines[-3]
    assert lines[-1] == "HTTP/2"


def test_nginx_waits_longer_than_heartbeats_take() -> None:
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", CONFIGURATION.read_text())
    assert int(seconds) > 2 * GatewaySettings.model_fields["heartbeat_seconds"].default

"""Every block of commands and code in the documents is run, or is listed here with the reason why it is not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from tests import upstream as up
from tests.docs.blocks import BLOCKS, ROOT, Block, shapes
from tests.end_to_end.conftest import Service, body, tool
from tests.processes import clean_environment, free_port, running_engine_process, running_gateway_process
from tests.upstream import running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOT_RUN = {
    "journalctl": "needs the units under a running systemd",
    "systemctl kill": "needs the units under a running systemd",
    "OPENAI_API_KEY=sk-… docker compose": "needs a Docker daemon",
    "kubectl": "needs a cluster",
    "python3 -m venv /opt": "writes to /opt and /etc",
}
STARTS = re.compile(r"(^|\s)(make run\S*|\S*/engine-grpc|\S*/sse-gateway)$")
BRINGS = [
    ("bm8=", '"code":"IMAGE_UNREADABLE"'),
    ("%{time_total}", "200 after "),
    ("tail -1", '"finish_reason":"stop"'),
    ("$SECONDS", 's data: {"type":"end"'),
    ("DELETE", '"success":true'),
    ("chat-image", ('"type":"end"', '"success":true')),
    ("/api/ai/answers/", '"type":"end"'),
    ("/readyz", '{"status":"ok"}'),
    ("/metrics", "studyai_"),
    ("studyai ask", "Hello there."),
    ("studyai doctor", "All is well."),
    ("openssl req", ""),
    ("thumbnail", ""),
]
"""What a command that has the first must write. The first that fits counts."""
COMMANDS = [block for block in BLOCKS if block.language == "sh"]
NOT_OURS = {"grpc.md": "its plugins are not at hand; what it says of TypeScript was run by hand"}


def finished(command: list[str], cwd: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=clean_environment(**settings), capture_output=True, text=True, check=False, timeout=30
    )


def reason(block: Block) -> str | None:
    return next((why for start, why in NOT_RUN.items() if block.code.startswith(start)), None)


RUN = [block for block in COMMANDS if not reason(block) and not STARTS.search(block.code.strip())]
STARTED = list({block.code: block for block in COMMANDS if STARTS.search(block.code.strip())}.values())


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Service, int]]:
    """The service, and the port of its engine's metrics."""
    metrics = free_port()
    with (
        running_upstream() as upstream,
        running_engine_process(upstream.base_url, ENGINE_METRICS_PORT=str(metrics)) as engine,
        running_gateway_process(engine) as gateway,
    ):
        yield Service(upstream, engine, gateway), metrics


@pytest.fixture(scope="module")
def answer(service: tuple[Service, int]) -> dict[str, str]:
    """The `start` of an answer that can be come back to."""
    service[0].upstream.script(up.stream_headers(), *map(up.chunk, ["Hello", " there", "."]), up.finish(), up.done())
    headers = {"Idempotency-Key": "of-the-documents"}
    reply = requests.post(service[0].stream_url, json=body(session_id="s-1"), headers=headers, timeout=10)
    start: dict[str, str] = json.loads(reply.text.splitlines()[1].removeprefix("data: "))
    return start


@pytest.mark.parametrize("block", RUN, ids=str)
def test_commands_bring_what_the_document_shows(
    service: tuple[Service, int], answer: dict[str, str], block: Block, tmp_path: Path
) -> None:
    running, metrics = service
    told = block.code.replace("ANSWER_ID", answer["answer_id"]).replace("SESSION_ID", answer["session_id"])
    told = told.replace("localhost:3000", f"127.0.0.1:{running.gateway.port}").replace(
        "photo.jpg", f"{ROOT}/examples/homework.png"
    )
    told = told.replace("localhost:9464", f"127.0.0.1:{metrics}").replace("Last-Event-ID: 2", "Last-Event-ID: 0")
    for program in re.findall(r"curl|openssl", told):
        tool(program)
    places = {"STUDYAI_URL": running.url, "AI_ENGINE_URL": f"http://127.0.0.1:{running.engine.port}"}
    told = told.replace(".venv/bin/", f"{os.path.dirname(sys.executable)}/")  # noqa: PTH120 - not resolved: a venv's
    where = tmp_path if re.search("openssl|small.jpg", told) else ROOT
    done = finished(["/bin/bash", "-euc", told], cwd=where, **places)
    assert done.returncode == 0, done.stderr
    wanted = next(brought for part, brought in BRINGS if part in told)
    assert any(one in done.stdout for one in ([wanted] if isinstance(wanted, str) else wanted)), done.stdout
    assert shapes(block.transcript) <= shapes(done.stdout)


@pytest.mark.parametrize("block", STARTED, ids=str)
def test_commands_that_start_the_service_do(block: Block) -> None:
    tool("make")
    if "cluster" in block.code:
        tool("redis-server")
    places = {name: str(free_port()) for name in ("PORT", "ENGINE_PORT", "REDIS_PORT")}
    told = block.code.replace("9464", str(free_port())).replace(".venv/bin/", f"{ROOT}/.venv/bin/")
    environment = clean_environment(PYTHONUNBUFFERED="1", **places)
    with subprocess.Popen(
        ["/bin/bash", "-euc", told],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = "Ctrl-C" if "make" in told else "listens|running on"
            assert any(re.search(ready, line) for line in process.stdout)
        finally:
            os.killpg(process.pid, signal.SIGINT)


def test_code_that_is_not_run_says_so_where_it_stands() -> None:
    for block in COMMANDS:
        assert not reason(block) or "ot run" in block.before, block


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    kinds = {"sh", "python", "js", "swift", "kotlin", "text", "ini", "mermaid", "nginx"}
    assert {str(block) for block in BLOCKS if block.language not in kinds and block.document not in NOT_OURS} == set()
    assert len(RUN) > 20


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_runs_as_it_stands(service: tuple[Service, int], block: Block) -> None:
    code = block.code.replace("http://localhost:3000", service[0].url)
    command = [sys.executable, "-W", "error", "-c", code]
    done = finished(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello there." in done.stdout

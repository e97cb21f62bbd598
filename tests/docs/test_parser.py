"""The parser of the HTTP guide, as apps copy it: run in Node over connections that break in every way it tells of."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.docs.blocks import BLOCKS
from tests.end_to_end.conftest import Service, body, tool
from tests.processes import running_engine_process, running_gateway_process
from tests.upstream import Signal, running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DRIVER = """
const [base, question] = process.argv.slice(2);
const leaving = new AbortController();
let last, text = "";
try {
  for await (const event of ask(base, JSON.parse(question), { left: leaving.signal })) {
    last = event;
    text += event.delta ?? "";
    if (text.includes("enough")) leaving.abort();
  }
} catch (error) {
  last = { thrown: error.name };
}
console.log(JSON.stringify({ last, text }));
"""
(PARSER,) = (block.code for block in BLOCKS if block.language == "js")


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with (
        running_upstream() as upstream,
        running_engine_process(upstream.base_url) as engine,
        running_gateway_process(engine) as gateway,
    ):
        yield Service(upstream, engine, gateway)


@pytest.fixture
def service(running: Service) -> Service:
    running.upstream.forget()
    return running


def asked_in_node(code: str, url: str, tmp_path: Path) -> dict[str, object]:
    script = tmp_path / "parser.mjs"
    script.write_text(code + DRIVER)
    question = json.dumps(body(prompt="Why is π so?", student_id="mia-7"))
    command = [tool("node"), str(script), url, question]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_nothing_is_lost_when_connections_are_cut(service: Service, tmp_path: Path) -> None:
    pieces = [f"π{number} \n\n" for number in range(200)]
    service.upstream.script(up.stream_headers(), *map(up.chunk, pieces), up.finish(), up.done())
    cuts = [60, 500, 900]  # in the head, in `start`, in `content` if not all of it comes at once
    with running_proxy(service.gateway.port, lambda number, _: cuts[number] if number < len(cuts) else None) as proxy:
        told = asked_in_node(PARSER, f"http://127.0.0.1:{proxy.port}", tmp_path)
    assert told["text"] == "".join(pieces)
    assert proxy.connections >= 3
    assert len(service.upstream.requests) == 1


def test_connection_that_falls_silent_is_left_for_another(service: Service, tmp_path: Path) -> None:
    came_back = Signal()
    service.upstream.script(
        up.stream_headers(), up.chunk("Hello"), up.gate(came_back), up.chunk(" there."), up.finish(), up.done()
    )
    assert "SILENCE_MS = 45_000" in PARSER

    def passed(number: int, _: bytes) -> None:
        if number == 1:
            came_back.set()

    with running_proxy(service.gateway.port, passed) as proxy:
        code = PARSER.replace("45_000", "500")
        told = asked_in_node(code, f"http://127.0.0.1:{proxy.port}", tmp_path)
    assert (told["text"], proxy.connections) == ("Hello there.", 2)
    assert len(service.upstream.requests) == 1


def test_student_who_leaves_stops_the_model(service: Service, tmp_path: Path) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("That is enough"), up.silence())
    told = asked_in_node(PARSER, service.url, tmp_path)
    assert told == {"last": {"thrown": "AbortError"}, "text": "That is enough"}
    service.upstream.block_request(0).closed.block()


def test_refusal_is_told(service: Service, tmp_path: Path) -> None:
    code = PARSER.replace("JSON.stringify(question)", "'{}'")
    told = asked_in_node(code, service.url, tmp_path)
    assert "INVALID_REQUEST" in str(told["last"])

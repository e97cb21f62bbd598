"""Every kind of client reads the stream as it comes."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests import upstream as up
from tests.chromium import running_chromium
from tests.end_to_end.conftest import WORKSHEET, body, tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Service

DELTAS = ["The answer", " is\n", "x = 6", ' "six"', "\u2028", "数学 👩‍🏫", " \\frac{1}{2}"]


def gated_answer(service: Service) -> list[up.Signal]:
    """Scripts an answer whose deltas wait for the gates that this returns."""
    gates = [up.Signal() for _ in DELTAS]
    service.upstream.script(
        up.stream_headers(), up.role(), up.gated(gates, DELTAS), up.finish(), up.usage(30, 20), up.done()
    )
    return gates


def read_opening_gates(lines: Iterable[str], gates: list[up.Signal]) -> list[dict[str, Any]]:
    """Reads events; a delta is let out only when all before it have been read, so that none can wait for another."""
    remaining = iter(gates)
    events = []
    for line in lines:
        if line.startswith("data: "):
            events.append(json.loads(line.removeprefix("data: ")))
            if opening := next(remaining, None):
                opening.set()
    return events


def check(events: list[dict[str, Any]]) -> None:
    assert [event["type"] for event in events] == ["start", *["content"] * len(DELTAS), "end"]
    assert [event["delta"] for event in events[1:-1]] == DELTAS
    assert events[-2]["content"] == events[-1]["content"] == "".join(DELTAS)
    assert events[-1]["tokens"] == 50
    assert events[-1]["finish_reason"] == "stop"


def test_requests_prints_deltas_as_they_come(service: Service) -> None:
    gates = gated_answer(service)
    with requests.post(service.stream_url, json=body(), stream=True, timeout=10) as reply:
        assert reply.status_code == 200
        check(read_opening_gates((line.decode("ascii") for line in reply.iter_lines()), gates))


def test_curl_prints_deltas_as_they_come(service: Service, tmp_path: Path) -> None:
    gates = gated_answer(service)
    (tmp_path / "ask.json").write_text(json.dumps(body()))
    command = [tool("curl"), "--no-buffer", "--silent", service.stream_url, "--json", "@ask.json", "--max-time", "10"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        check(read_opening_gates(curl.stdout, gates))
    assert curl.returncode == 0


def test_node_grpc_client_reads_deltas_as_they_come(service: Service) -> None:
    gates = gated_answer(service)
    target = f"127.0.0.1:{service.engine.port}"
    command = [tool("node"), "tests/node/ask.mjs", target, str(WORKSHEET), "What is x?"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        lines = (f"data: {line}" for line in node.stdout)
        events = read_opening_gates(lines, gates)
    assert [event["event"] for event in events] == ["started", *["text_delta"] * len(DELTAS), "finished"]
    assert [event["text_delta"]["text"] for event in events[1:-1]] == DELTAS
    assert events[-1]["finished"]["finish_reason"] == "FINISH_REASON_STOP"
    assert events[-1]["finished"]["usage"]["total_tokens"] == 50


READ_IN_BROWSER = """async ([url, body]) => {
  const reply = await fetch(url, {method: "POST", headers: {"Content-Type": "application/json"}, body});
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\\n\\n");
    text = events.pop();
    for (const event of events) await window.gotEvent(event);
  }
}"""


def test_browsers_fetch_reader_gets_deltas_as_they_come(service: Service) -> None:
    gates = iter(gated_answer(service))
    events: list[dict[str, Any]] = []

    def got_event(event: str) -> None:
        events.extend(json.loads(line[6:]) for line in event.split("\n") if line.startswith("data: "))
        # A heartbeat takes no gate: one that it took would never be opened.
        if not event.startswith(":") and (opening := next(gates, None)):
            opening.set()

    with running_chromium() as browser:
        page = browser.new_page()
        page.expose_function("gotEvent", got_event)
        page.goto(f"{service.url}/healthz")
        page.evaluate(READ_IN_BROWSER, [service.stream_url, json.dumps(body())])
    check(events)


@pytest.mark.parametrize("path", ["/api/ai/chat-image", "/api/v1/chat-image"])
def test_fallback_gives_the_streams_answer_in_one_reply(service: Service, path: str) -> None:
    service.upstream.script(*up.answer(*DELTAS, usage=(30, 20)))
    reply = requests.post(service.url + path, json=body(), timeout=10)
    assert reply.status_code == 200
    whole = reply.json()
    assert whole["success"] is True
    assert whole["response"] == "".join(DELTAS)
    assert whole["tokens_used"] == 50
    assert whole["finish_reason"] == "stop"
    assert whole["image_analyzed"] is True


def test_delta_is_on_the_clients_socket_within_milliseconds(service: Service) -> None:
    gates = [up.Signal() for _ in range(30)]
    letters = [chr(ord("a") + number % 26) for number in range(30)]
    service.upstream.script(up.stream_headers(), up.gated(gates, letters), up.finish(), up.done())
    delays: list[float] = []
    with requests.post(service.stream_url, json=body(), stream=True, timeout=10) as reply:
        lines = (line for line in reply.iter_lines(chunk_size=1) if line.startswith(b"data: "))
        next(lines)
        for opening in gates:
            sent = time.perf_counter()
            opening.set()
            next(lines)
            delays.append(time.perf_counter() - sent)
    # The typical delay is a few milliseconds; the bound only tells passing on from holding back.
    assert sorted(delays)[len(delays) // 2] < 0.1


def test_picture_reaches_the_model_as_it_was_sent(service: Service) -> None:
    requests.post(service.stream_url, json=body(), timeout=10)
    (asked,) = service.upstream.requests
    (picture,) = [part for part in asked.json["messages"][-1]["content"] if part["type"] == "image_url"]
    sent = base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])
    assert sent == WORKSHEET.read_bytes()


def _lines(reply: requests.Response) -> Iterator[str]:
    return (line.decode("ascii") for line in reply.iter_lines(chunk_size=1))


def test_idle_stream_is_kept_alive_by_comments(service: Service) -> None:
    more = up.Signal()
    service.upstream.script(up.stream_headers(), up.gate(more), up.chunk("Hi"), up.finish(), up.done())
    with requests.post(service.stream_url, json=body(), stream=True, timeout=10) as reply:
        lines = _lines(reply)
        comment = next(line for line in lines if line.startswith(":"))
        assert comment
        more.set()
        events = read_opening_gates(lines, [])
    assert [event["type"] for event in events] == ["content", "end"]

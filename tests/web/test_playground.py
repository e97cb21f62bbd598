"""The page for developers: what went over the wire, and the ways to disturb it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET
from tests.upstream import Signal

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service


def test_stream_is_shown_as_it_came_and_can_be_cut_and_resumed(page: Page, service: Service) -> None:
    opened = Signal()
    service.upstream.script(
        up.stream_headers(), up.chunk("Hel"), up.gate(opened), up.chunk("lo"), up.finish(), up.done()
    )
    page.goto(f"{service.url}/playground")
    page.get_by_label("Picture").set_input_files(WORKSHEET)
    page.get_by_role("button", name="Send").click()
    events = page.get_by_role("region", name="Events")
    expect(events).to_contain_text('"delta":"Hel"')
    page.get_by_role("button", name="Cut the connection").click()
    expect(events).to_contain_text("cut")
    opened.set()
    page.get_by_role("button", name="Resume").click()
    expect(events).to_contain_text('"type":"end"')
    expect(page.locator("#curl")).to_contain_text("Last-Event-ID: 1")
    assert len(service.upstream.requests) == 1


def test_curl_line_sends_the_same_question(page: Page, service: Service, tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(WORKSHEET.read_bytes())
    page.goto(f"{service.url}/playground")
    page.get_by_label("Picture").set_input_files(WORKSHEET)
    page.get_by_label("prompt").fill("What's 100 % of x\\y?")
    for _ in range(2):
        service.upstream.script(up.stream_headers(), up.chunk("Hello"), up.finish(), up.done())
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("region", name="Events")).to_contain_text('"type":"end"')
    command = page.locator("#curl").inner_text().replace("Idempotency-Key: ", "Idempotency-Key: another-")
    told = subprocess.run(["/bin/bash", "-euc", command], cwd=tmp_path, capture_output=True, check=True, timeout=20)
    assert b'"type":"end"' in told.stdout
    first, second = (json.dumps(request.json["messages"][0]) for request in service.upstream.requests)
    assert first == second
    texts = [part["text"] for part in service.upstream.requests[1].json["messages"][1]["content"] if "text" in part]
    assert "What's 100 % of x\\y?" in texts


def test_send_pressed_twice_sends_once(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/playground")
    page.evaluate("""() => {
        const open = window.createImageBitmap;
        window.createImageBitmap = async (...picture) => {
            await new Promise((release) => { window.release = release; });
            return open(...picture);
        };
    }""")
    page.get_by_label("Picture").set_input_files(WORKSHEET)
    service.upstream.default(up.stream_headers(), up.chunk("Hello"), up.finish(), up.done())
    page.locator("#send").evaluate("(button) => { button.click(); button.click(); window.release(); }")
    expect(page.get_by_role("region", name="Events")).to_contain_text('"type":"end"')
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    assert len(service.upstream.requests) == 1


def test_answer_can_be_stopped(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Hel"), up.silence())
    page.goto(f"{service.url}/playground")
    page.get_by_label("Picture").set_input_files(WORKSHEET)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Stop the answer").click()
    expect(page.get_by_role("region", name="Events")).to_contain_text('"finish_reason":"stopped"')

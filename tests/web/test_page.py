"""The page for students, used in Chromium at the size of a phone and of a desktop."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from playwright.sync_api import expect

from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET
from tests.processes import running_gateway_process
from tests.upstream import Signal
from tests.web.conftest import ask

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.end_to_end.conftest import Service

AXE = Path(__file__).parents[2] / "scripts" / "web" / "node_modules" / "axe-core" / "axe.min.js"
ANSWER = "Subtract 7:\n\n$$3x = 15$$\n\nSo **x** is $5$.\n\n- check it\n"


def script(service: Service, *pieces: str) -> None:
    service.upstream.script(up.stream_headers(), *map(up.chunk, pieces), up.finish(), up.usage(7, 3), up.done())


def gated(service: Service, first: str, rest: str) -> Signal:
    """The model says `first`, and `rest` when the signal is set."""
    opened = Signal()
    service.upstream.script(
        up.stream_headers(), up.chunk(first), up.gate(opened), up.chunk(rest), up.finish(), up.done()
    )
    return opened


def test_answer_appears_while_it_is_written_with_its_maths_and_markdown(page: Page, service: Service) -> None:
    opened = gated(service, "First **step**: $3x", " = 15$, so\n\n$$x = 5$$\n")
    ask(page)
    answer = page.locator(".answer")
    expect(answer.locator("strong")).to_have_text("step")
    assert "$" not in answer.inner_text()  # half a formula is not shown
    opened.set()
    expect(answer.locator(".katex")).to_have_count(2)
    expect(answer.locator(".katex-display")).to_be_visible()
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_formula_in_a_quotation_and_in_a_list_is_what_was_written(page: Page, service: Service) -> None:
    script(service, "> **Rule**\n>\n> $$\n> a + b\n> = c\n> $$\n\n- so\n\n  $$\n  x\n  = 5\n  $$\n")
    ask(page)
    formulas = page.locator(".answer annotation")
    expect(formulas).to_have_count(2)
    assert [" ".join(source.split()) for source in formulas.all_text_contents()] == ["a + b = c", "x = 5"]


def test_what_is_no_formula_after_all_stays_as_it_was_written(page: Page, service: Service) -> None:
    text = r"It is $5 and {6$ or \(x^{2\)."
    script(service, text)
    ask(page)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    expect(page.locator(".answer")).to_have_text(text)


def test_follow_up_needs_no_second_picture(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    ask(page)
    expect(page.locator(".answer")).to_have_text("x is 5.")
    script(service, "Because 3 times 5 is 15.")
    ask(page, "Why?", picture=False)
    expect(page.locator(".answer").last).to_have_text("Because 3 times 5 is 15.")
    messages = service.upstream.requests[-1].json["messages"]
    assert "image_url" in json.dumps(messages)
    assert "x is 5." in json.dumps(messages)


def test_question_that_is_too_long_is_told_so_and_nothing_of_it_is_lost(page: Page, service: Service) -> None:
    text = "👩‍🏫 " * 1001
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    expect(page.get_by_alt_text("Your picture")).to_be_visible()
    prompt = page.get_by_role("textbox", name="Your question")
    prompt.focus()
    page.evaluate("(text) => document.execCommand('insertText', false, text)", text)  # as a paste does
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_have_text(
        "Your question is too long: it has 4,003 characters, 4,000 is the most."
    )
    expect(prompt).to_have_value(text)
    assert service.upstream.requests == []
    script(service, "x is 5.")
    prompt.fill(text[:-5])
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_have_text("x is 5.")


HOLD = """() => {
    const open = window.createImageBitmap;
    window.createImageBitmap = async (...picture) => {
        await new Promise((release) => { window.release = release; });
        return open(...picture);
    };
}"""


def test_question_waits_for_the_picture_that_is_being_prepared(page: Page, service: Service) -> None:
    """Else it would be asked about the picture before, and the new one left lying for the next question."""
    script(service, "x is 5.")
    ask(page)
    expect(page.locator(".answer")).to_have_text("x is 5.")
    page.evaluate(HOLD)
    script(service, "y is 6.")
    prompt = page.get_by_role("textbox", name="Your question")
    prompt.fill("And here?")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Ask").click()
    page.evaluate("window.release()")
    expect(page.locator(".answer").last).to_have_text("y is 6.")
    expect(page.locator(".question").last.get_by_role("img")).to_be_visible()
    expect(page.get_by_alt_text("Your picture")).to_be_hidden()
    assert len(service.upstream.requests) == 2


def test_question_is_kept_where_the_picture_that_it_waits_for_is_none(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    ask(page)
    expect(page.locator(".answer")).to_have_text("x is 5.")
    page.evaluate(HOLD)
    prompt = page.get_by_role("textbox", name="Your question")
    prompt.fill("And here?")
    page.get_by_label("Take or choose a picture").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    )
    page.get_by_role("button", name="Ask").click()
    page.evaluate("window.release()")
    expect(page.get_by_role("alert")).to_contain_text("I cannot open this file")
    expect(prompt).to_have_value("And here?")
    assert len(service.upstream.requests) == 1


def test_stop_keeps_the_text_so_far_and_ends_the_model(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("So far."), up.silence())
    ask(page)
    expect(page.locator(".answer")).to_have_text("So far.")
    page.get_by_role("button", name="Stop generating").click()
    expect(page.locator(".state")).to_have_text("Stopped.")
    expect(page.locator(".answer")).to_have_text("So far.")
    service.upstream.requests[-1].closed.block()


def test_without_streaming_the_fallback_answers_and_the_setting_is_kept(page: Page, service: Service) -> None:
    page.get_by_label("Settings").click()
    page.get_by_role("switch").uncheck()
    page.reload()
    page.get_by_label("Settings").click()
    expect(page.get_by_role("switch")).not_to_be_checked()
    page.keyboard.press("Escape")
    script(service, "x is 5.")
    with page.expect_request("**/api/ai/chat-image"):
        ask(page)
    expect(page.locator(".answer")).to_have_text("x is 5.")


def test_failure_is_told_in_a_sentence_and_try_again_asks_with_the_same_key(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Half"), up.reset())
    with page.expect_request("**/api/ai/chat-image-stream") as first:
        ask(page)
    expect(page.locator(".state")).to_contain_text("The answer broke off. Please try again.")
    script(service, "Whole.")
    with page.expect_request("**/api/ai/chat-image-stream") as second:
        page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer")).to_have_text("Whole.")
    keys = {request.value.headers["idempotency-key"] for request in (first, second)}
    assert len(keys) == 1


def test_gateway_killed_in_mid_answer_and_restarted_loses_nothing_and_asks_once(page: Page, service: Service) -> None:
    with running_gateway_process(service.engine) as gateway:
        page.goto(f"http://127.0.0.1:{gateway.port}")
        opened = gated(service, "The first half, ", "and the second.")
        ask(page)
        expect(page.locator(".answer")).to_have_text("The first half,")
        gateway.stop(9)
        expect(page.locator(".state")).to_contain_text("Connecting again")
        opened.set()
        with running_gateway_process(service.engine, port=gateway.port):
            expect(page.locator(".answer")).to_have_text("The first half, and the second.", timeout=20_000)
            expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert len(service.upstream.requests) == 1


def test_student_who_asks_too_often_is_told_at_once_and_may_try_again(page: Page, service: Service) -> None:
    refusal = {"success": False, "code": "RATE_LIMITED", "retryable": True}
    page.route(
        "**/api/ai/chat-image-stream",
        lambda route: route.fulfill(status=429, json=refusal, headers={"Retry-After": "60"}),
    )
    ask(page)
    expect(page.locator(".state")).to_contain_text("Take a short break")
    page.unroute("**/api/ai/chat-image-stream")
    script(service, "x is 5.")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer")).to_have_text("x is 5.")


def test_proxy_that_cannot_stream_is_answered_by_the_fallback(page: Page, service: Service) -> None:
    page.route(
        "**/api/ai/chat-image-stream", lambda route: route.fulfill(status=200, body="<html>", content_type="text/html")
    )
    script(service, "x is 5.")
    ask(page)
    expect(page.locator(".answer")).to_have_text("x is 5.")


def test_offline_is_shown_and_the_question_is_sent_when_the_network_is_back(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline. What you ask")).to_be_visible()
    ask(page)
    expect(page.locator(".state")).to_contain_text("You are offline")
    page.context.set_offline(False)
    expect(page.locator(".answer")).to_have_text("x is 5.")


def test_answer_that_is_forgotten_again_and_again_is_given_up(page: Page, service: Service) -> None:
    """Each time the question is sent once more the model is asked anew, and somebody pays."""
    start = {"type": "start", "timestamp": "2026-01-01T00:00:00Z", "model": "m", "answer_id": "a1", "session_id": "s"}
    forgotten = {"success": False, "code": "ANSWER_NOT_FOUND", "retryable": False}
    asked: list[str] = []

    def cut(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(body=f"id: 0\ndata: {json.dumps(start)}\n\n", content_type="text/event-stream")

    page.route("**/api/ai/chat-image-stream", cut)
    page.route("**/api/ai/answers/a1*", lambda route: route.fulfill(status=404, json=forgotten))
    ask(page)
    expect(page.locator(".state")).to_contain_text("The answer broke off. Please try again.")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert len(asked) == 3


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "in one reply"])
def test_question_is_sent_when_the_network_is_back_however_long_that_takes(
    page: Page, service: Service, *, streaming: bool
) -> None:
    page.clock.install()
    page.reload()
    page.evaluate("(streaming) => localStorage.setItem('streaming', streaming)", streaming)
    page.reload()
    page.context.set_offline(True)
    with page.expect_event("requestfailed"):
        ask(page)
    for _ in range(20):
        with page.expect_event("requestfailed", timeout=8000):
            page.clock.run_for(6000)
    expect(page.locator(".state")).to_contain_text("I go on when you are back.")
    script(service, "x is 5.")
    page.context.set_offline(False)
    expect(page.locator(".answer")).to_have_text("x is 5.")
    assert len(service.upstream.requests) == 1


SCRIPTS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "[click](javascript:window.hacked=1)",
    "![x](https://example.com/x.png)",
    "$\\href{javascript:window.hacked=1}{x}$",
    "$\\htmlStyle{color:red}{x}$",
    "$\\htmlData{x=window.hacked=1}{x}$",
    "$\\includegraphics{https://example.com/y.png}$",
    "`<svg onload=window.hacked=1>`",
]


def test_scripts_in_the_models_text_the_prompt_and_a_files_name_do_nothing(page: Page, service: Service) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    script(service, "\n\n".join(SCRIPTS))
    name = "<img src=x onerror=window.hacked=1>.png"
    picture: Any = {"name": name, "mimeType": "image/png", "buffer": WORKSHEET.read_bytes()}
    page.get_by_label("Take or choose a picture").set_input_files(picture)
    expect(page.locator("#picture-name")).to_have_text(name)
    ask(page, SCRIPTS[1], picture=False)
    expect(page.locator(".answer")).to_contain_text("window.hacked = 1")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    for link in page.locator(".answer a").all():
        link.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator(".answer :is(script, img, svg[onload], [style*='red'], a[href^='javascript'])").count() == 0
    assert not [url for url in asked if "example.com" in url]


def test_picture_can_be_pasted_and_dropped_and_a_file_that_is_none_is_told_of(page: Page, service: Service) -> None:
    del service
    transfer = """(type) => {
        const transfer = new DataTransfer();
        const canvas = document.createElement("canvas");
        return new Promise((done) => canvas.toBlob((blob) => {
            transfer.items.add(new File([blob], type + ".png", {type: "image/png"}));
            const event = type === "paste" ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
                                           : new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
            document.body.dispatchEvent(event);
            done();
        }));
    }"""
    for way in ("paste", "drop"):
        page.evaluate(transfer, way)
        expect(page.locator("#picture-name")).to_have_text(f"{way}.png")
    page.get_by_role("button", name="Remove the picture").click()
    broken: Any = {"name": "broken.png", "mimeType": "image/png", "buffer": b"none"}
    page.get_by_label("Take or choose a picture").set_input_files([broken])
    expect(page.get_by_role("alert")).to_contain_text("I cannot open this file as a picture")


@pytest.mark.parametrize("kind", ["application/pdf", ""])  # the latter is what a system says that knows no HEIC
def test_file_of_another_kind_that_is_dropped_is_told_of(page: Page, service: Service, kind: str) -> None:
    del service
    page.evaluate(
        """(type) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["x"], "page", {type}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }""",
        kind,
    )
    expect(page.get_by_role("alert")).to_contain_text("I cannot open this file as a picture")


def test_question_is_asked_with_the_keyboard_alone(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    expect(page.get_by_role("textbox", name="Your question")).to_be_focused()
    page.keyboard.type("What is x?")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")


def axe_findings(page: Page) -> object:
    page.evaluate(AXE.read_text())  # by the debugger, which no policy binds
    return page.evaluate("axe.run().then(({violations}) => violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))")


SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


@pytest.fixture
def axe() -> None:
    if not AXE.exists():
        message = "axe-core is not installed: `make setup` installs it where it may"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


@pytest.mark.usefixtures("axe")
@pytest.mark.parametrize("path", ["/", "/playground"])
def test_axe_finds_nothing_before_and_after_an_answer(page: Page, service: Service, path: str) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.goto(service.url + path)
        assert axe_findings(page) == []
        if path == "/":
            script(service, ANSWER)
            ask(page)
            expect(page.locator(".answer li").last).to_have_text("check it")
            expect(page.get_by_role("button", name="Ask")).to_be_visible()
        assert axe_findings(page) == []


@pytest.mark.usefixtures("axe")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_while_an_answer_comes_is_stopped_or_fails_nor_offline_nor_in_the_settings(
    page: Page, service: Service, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    service.upstream.script(up.stream_headers(), up.silence())
    ask(page)
    expect(page.locator(".state")).to_contain_text("Reading your page")
    assert page.evaluate("document.getAnimations().length") == 0
    assert axe_findings(page) == []
    page.get_by_role("button", name="Stop generating").click()
    expect(page.locator(".state")).to_have_text("Stopped.")
    assert axe_findings(page) == []
    service.upstream.script(up.stream_headers(), up.chunk("Half"), up.reset())
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert axe_findings(page) == []
    page.get_by_label("Settings").click()
    assert axe_findings(page) == []
    page.keyboard.press("Escape")
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline. What you ask")).to_be_visible()
    assert axe_findings(page) == []
    page.context.set_offline(False)


@pytest.mark.parametrize("path", ["/", "/playground"])
def test_nothing_is_wider_than_the_smallest_phone_nor_than_a_page_at_twice_its_size(
    page: Page, service: Service, path: str
) -> None:
    script(
        service,
        "$$"
        + "+".join("abcdefghijklmnop" * 3)
        + "$$\n\n| a | b |\n|---|---|\n|"
        + "wide " * 9
        + "|"
        + "x" * 99
        + "|\n",
    )
    ask(page)
    expect(page.locator(".answer td").last).to_be_visible()
    page.goto(service.url + path)
    for width in (320, 640):  # 640 is what is left of 1,280 at 200 %
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if path == "/":
            page.get_by_label("Settings").click()
            box = page.locator(".sheet").bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            page.keyboard.press("Escape")

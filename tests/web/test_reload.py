"""What a tab keeps over a reload, and what no other tab ever sees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests import upstream as up
from tests.upstream import Signal
from tests.web.conftest import ask, on_a_phone

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service


def test_conversation_is_there_after_a_reload_and_goes_on_in_its_session(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("So **x** is $5$."), up.finish(), up.done())
    ask(page)
    expect(page.locator("#said")).to_contain_text("The answer: So x is")
    page.reload()
    expect(page.locator(".answer strong")).to_have_text("x")
    expect(page.locator(".answer .katex")).to_be_visible()
    expect(page.locator(".question")).to_contain_text("What is x?")
    picture = page.get_by_alt_text("The picture you asked about")
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 100
    expect(page.get_by_role("heading", name="Stuck on a page?")).to_be_hidden()
    service.upstream.script(up.stream_headers(), up.chunk("Because."), up.finish(), up.done())
    ask(page, "Why?", picture=False)
    expect(page.locator(".answer").last).to_have_text("Because.")
    asked = json.dumps(service.upstream.requests[-1].json["messages"])
    assert "So **x** is $5$." in asked
    assert "image_url" in asked
    assert len(service.upstream.requests) == 2


def test_answer_that_is_being_written_is_resumed_after_a_reload_and_the_model_asked_once(
    page: Page, service: Service
) -> None:
    opened = Signal()
    service.upstream.script(
        up.stream_headers(),
        up.chunk("The first half, "),
        up.gate(opened),
        up.chunk("and the second."),
        up.finish(),
        up.done(),
    )
    ask(page)
    expect(page.locator(".answer")).to_have_text("The first half,")
    with page.expect_request("**/api/ai/answers/*") as resumed:
        page.reload()
    assert resumed.value.headers["last-event-id"] == "1"
    expect(page.locator(".answer")).to_have_text("The first half,")
    expect(page.get_by_role("button", name="Stop generating")).to_be_visible()
    expect(page.locator(".state")).to_have_text("")  # the page has been read
    opened.set()
    expect(page.locator(".answer")).to_have_text("The first half, and the second.")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert len(service.upstream.requests) == 1


def test_reload_before_the_first_word_asks_once(page: Page, service: Service) -> None:
    opened = Signal()
    service.upstream.script(up.stream_headers(), up.gate(opened), up.chunk("x is 5."), up.finish(), up.done())
    ask(page)
    service.upstream.block_request()
    page.reload()
    expect(page.locator(".state")).to_contain_text("Reading your page")
    opened.set()
    expect(page.locator(".answer")).to_have_text("x is 5.")
    assert len(service.upstream.requests) == 1


def test_reload_in_one_reply_mode_joins_the_answer(page: Page, service: Service) -> None:
    page.get_by_label("Settings").click()
    page.get_by_role("switch").uncheck()
    page.keyboard.press("Escape")
    opened = Signal()
    service.upstream.script(up.stream_headers(), up.gate(opened), up.chunk("x is 5."), up.finish(), up.done())
    ask(page)
    service.upstream.block_request()
    page.reload()
    opened.set()
    expect(page.locator(".answer")).to_have_text("x is 5.")
    assert len(service.upstream.requests) == 1


HOLD_FRAMES = """
    window.held = [];
    window.requestAnimationFrame = (draw) => window.held.push(draw);
"""
LET_GO = """() => {
    window.requestAnimationFrame = (draw) => setTimeout(draw);
    window.held.splice(0).forEach((draw) => draw());
}"""


@on_a_phone
def test_conversation_is_in_its_place_after_a_reload_before_it_is_drawn_and_a_new_page_stays_empty(
    page: Page, service: Service
) -> None:
    for number in range(3):
        service.upstream.script(up.stream_headers(), up.chunk(f"Answer {number}."), up.finish(), up.done())
        ask(page, f"Question {number}", picture=number == 0)
        expect(page.locator("#said")).to_have_text(f"The answer: Answer {number}.")
    page.add_init_script(HOLD_FRAMES)
    page.reload()
    expect(page.locator(".question")).to_have_text(["Question 0", "Question 1", "Question 2"])
    expect(page.locator(".answer")).to_have_text(["", "", ""])
    page.get_by_role("button", name="New page").dispatch_event("click")  # a real one waits for a frame
    page.evaluate(LET_GO)
    expect(page.get_by_role("heading", name="Stuck on a page?")).to_be_visible()
    expect(page.locator(".question")).to_have_count(0)
    page.get_by_role("button", name="Back to the page before").dispatch_event("click")
    expect(page.locator(".answer")).to_have_text(["Answer 0.", "Answer 1.", "Answer 2."])


def test_failure_can_be_tried_again_after_a_reload(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Half"), up.reset())
    ask(page)
    expect(page.locator(".state")).to_contain_text("The answer broke off.")
    page.reload()
    expect(page.locator(".state")).to_contain_text("The answer broke off.")
    service.upstream.script(up.stream_headers(), up.chunk("Whole."), up.finish(), up.done())
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer")).to_have_text("Whole.")


@on_a_phone
def test_question_that_is_being_written_is_there_after_a_reload(page: Page) -> None:
    prompt = page.get_by_role("textbox", name="Your question")
    prompt.fill("What is")
    page.reload()
    expect(prompt).to_have_value("What is")


def test_new_page_forgets_the_conversation_for_good(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("x is 5."), up.finish(), up.done())
    ask(page)
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    page.get_by_role("button", name="New page").click()
    page.reload()
    expect(page.get_by_role("heading", name="Stuck on a page?")).to_be_visible()
    assert "x is 5." not in page.evaluate("JSON.stringify(sessionStorage)")
    ask(page, "Why?", picture=False)
    expect(page.get_by_role("alert")).to_have_text("Please add a picture of the page first.")


def test_nothing_that_was_said_and_no_access_code_is_kept_outside_of_the_tab(page: Page, service: Service) -> None:
    page.get_by_label("Settings").click()
    page.get_by_label("Access code").fill("secret")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    service.upstream.script(up.stream_headers(), up.chunk("x is 5."), up.finish(), up.done())
    ask(page)
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    assert page.evaluate("({...localStorage})") == {}
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.locator("#token")).to_have_value("secret")
    other = page.context.new_page()
    other.goto(service.url)
    expect(other.get_by_role("heading", name="Stuck on a page?")).to_be_visible()
    expect(other.locator("#token")).to_have_value("")


def test_full_store_lets_go_of_the_oldest_turns_and_keeps_the_newest(page: Page, service: Service) -> None:
    for number in range(4):
        if number == 2:  # room for one more answer, if two older ones go
            page.evaluate(FILL)
        service.upstream.script(up.stream_headers(), up.chunk(f"{number} " * 2000), up.finish(), up.done())
        ask(page, picture=number == 0)
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
    page.reload()
    expect(page.locator(".answer").last).to_contain_text("3 3 3")
    assert "0 0 0" not in page.locator("#turns").inner_text()


FILL = """() => {
    for (let size = 2 ** 22; size >= 256; size /= 2) {
        try { for (let n = 0; ; n += 1) sessionStorage.setItem(`other ${size} ${n}`, "x".repeat(size)); } catch {}
    }
}"""

"""The page for students, used in Chromium at the size of a phone and of a desktop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET
from tests.web.conftest import ask, gated, on_a_phone, script

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service


def test_answer_appears_while_it_is_written_with_its_maths_and_markdown(page: Page, service: Service) -> None:
    opened = gated(service, "First **step**: $3x", " = 15$, so\n\n$$x = 5$$\n")
    ask(page)
    answer = page.locator(".answer")
    expect(answer.locator("strong")).to_have_text("step")
    assert "$" not in answer.inner_text()  # half a formula is not shown
    expect(page.locator(".state .dots")).to_be_visible()  # there is more to come
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


def test_second_click_of_a_double_click_on_ask_stops_nothing(page: Page, service: Service) -> None:
    rest = gated(service, "x is", " 5.")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    page.get_by_role("textbox", name="Your question").fill("What is x?")
    page.get_by_role("button", name="Ask").dblclick()
    expect(page.locator(".answer")).to_have_text("x is")
    expect(page.get_by_role("button", name="Stop generating")).to_be_visible()
    rest.set()
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    page.get_by_role("textbox", name="Your question").fill("And y?")
    service.upstream.script(up.stream_headers(), up.chunk("So far."), up.silence())
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer").last).to_have_text("So far.")
    page.get_by_role("button", name="Stop generating").dblclick()  # whoever means it is heard
    expect(page.locator(".state").last).to_have_text("Stopped.")


@on_a_phone
def test_enter_that_is_held_down_on_ask_stops_nothing(page: Page, service: Service) -> None:
    rest = gated(service, "x is", " 5.")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    page.get_by_role("textbox", name="Your question").fill("What is x?")
    page.get_by_role("button", name="Ask").focus()
    page.keyboard.down("Enter")
    stop = page.get_by_role("button", name="Stop generating")
    expect(stop).to_be_focused()
    page.keyboard.down("Enter")  # again: it is a repetition
    page.keyboard.up("Enter")
    expect(page.locator(".answer")).to_have_text("x is")
    expect(stop).to_be_visible()
    rest.set()
    expect(page.locator(".answer")).to_have_text("x is 5.")
    service.upstream.script(up.stream_headers(), up.chunk("So far."), up.silence())
    ask(page, "And y?", picture=False)
    stop.press("Enter")
    expect(page.locator(".state").last).to_have_text("Stopped.")


@on_a_phone
def test_enter_that_ends_the_composing_of_a_word_sends_nothing(page: Page) -> None:
    """As Safari tells of it: after the composing, by the key's number alone."""
    page.get_by_role("textbox", name="Your question").fill("こたえ")
    event = "new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true, cancelable: true})"
    assert page.evaluate(f"document.querySelector('#prompt').dispatchEvent({event})")
    expect(page.get_by_role("alert")).to_have_text("")


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
    expect(page.get_by_text("Preparing …")).to_be_visible()
    expect(page.locator("#said")).to_have_text("Your picture is being prepared.")
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


@on_a_phone
def test_answer_is_copied_as_the_model_wrote_it(page: Page, service: Service) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    script(service, "So **x** is $5$.")
    ask(page)
    page.get_by_role("button", name="Copy the answer").click()
    expect(page.locator("#said")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "So **x** is $5$."


@on_a_phone
def test_new_page_can_be_taken_back_for_a_moment_and_goes_on_where_it_was(page: Page, service: Service) -> None:
    page.clock.install()
    page.reload()
    script(service, "x is 5.")
    ask(page)
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    back = page.get_by_role("button", name="Back to the page before")
    page.get_by_role("button", name="New page").click()
    back.click()
    script(service, "Because.")
    ask(page, "Why?", picture=False)
    expect(page.locator("#said")).to_have_text("The answer: Because.")
    assert "x is 5." in json.dumps(service.upstream.requests[-1].json["messages"])
    page.reload()
    expect(page.locator(".answer")).to_have_text(["x is 5.", "Because."])
    page.get_by_role("button", name="New page").click()
    expect(back).to_be_visible()
    page.clock.fast_forward(10_000)
    expect(back).to_be_hidden()

"""The page for everyone: with the keyboard alone, with a screen reader, on the smallest phone and at twice the size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import expect

from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET
from tests.web.conftest import ask, gated, on_a_phone, script

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service

AXE = Path(__file__).parents[2] / "scripts" / "web" / "node_modules" / "axe-core" / "axe.min.js"
WIDE = "x" * 200
ANSWER = f"Subtract 7:\n\n$$3x = 15$$\n\n$$a + {'+ b' * 99}$$\n\n```\n{WIDE}\n```\n\nSo **x** is $5$.\n\n- check it\n"


def test_question_is_asked_with_the_keyboard_alone(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    expect(page.get_by_role("textbox", name="Your question")).to_be_focused()
    page.keyboard.type("What is x?")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")


@on_a_phone
def test_focus_goes_to_what_takes_the_place_of_the_button_that_was_pressed(page: Page, service: Service) -> None:
    ask_button, stop = page.get_by_role("button", name="Ask"), page.get_by_role("button", name="Stop generating")
    prompt = page.get_by_role("textbox", name="Your question")
    half = gated(service, "Half", ".")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    expect(prompt).to_be_focused()
    page.keyboard.type("What is x?")
    page.keyboard.press("Tab")
    expect(ask_button).to_be_focused()
    page.keyboard.press("Enter")
    expect(stop).to_be_focused()
    expect(page.get_by_role("article", name="Your question")).to_have_text("What is x?")
    expect(page.get_by_role("article", name="Answer")).to_have_text("Half")
    half.set()
    expect(prompt).to_be_focused()
    service.upstream.script(up.stream_headers(), up.chunk("Half"), up.reset())
    ask(page, "And?", picture=False)
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    half = gated(service, "Whole", ".")
    again.press("Enter")
    expect(stop).to_be_focused()
    half.set()
    expect(prompt).to_be_focused()
    page.evaluate("window.matchMedia = () => ({matches: true})")  # a finger, and no mouse: a keyboard would come up
    script(service, "x is 5.")
    ask(page, "Why?", picture=False)
    expect(page.get_by_role("article", name="Answer").last).to_be_focused()


SPOKEN = r"""## So

1. $x = \frac{15}{3}$ and
2. $\sqrt{x + 4} = y_1^2$.

$$\sum_{k=1}^{n} k$$

$\ce{2H2O}$
"""


@on_a_phone
def test_answer_is_read_aloud_block_by_block_and_its_formulas_as_what_they_say(page: Page, service: Service) -> None:
    script(service, SPOKEN)
    ask(page)
    expect(page.locator("#said")).to_contain_text("The answer:")
    said = (page.locator("#said").text_content() or "").replace("\u2009", " ")
    assert said == "The answer: So\nx=15/3 and\n√(x+4)=y_1^2.\n∑_(k=1)^nk\n2 H_2O"


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
    for answers in range(2):
        page.emulate_media(color_scheme=SCHEMES[answers])
        page.goto(service.url + path)
        if path == "/":  # what was answered before is drawn again
            expect(page.get_by_role("button", name="Copy the answer")).to_have_count(answers)
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
    service.upstream.block_request()  # else it is the next question that the silence would answer
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


FITS = "document.documentElement.scrollWidth <= innerWidth"
TOO_WIDE = f"$${'+'.join('abcdefghijklmnop' * 3)}$$\n\n| a | b |\n|---|---|\n|{'wide ' * 9}|{'x' * 99}|\n"


@pytest.mark.parametrize("path", ["/", "/playground"])
def test_nothing_is_wider_than_the_smallest_phone_nor_than_a_page_at_twice_its_size(
    page: Page, service: Service, path: str
) -> None:
    script(service, TOO_WIDE)
    ask(page)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    page.goto(service.url + path)
    for width in (320, 640):  # 640 is what is left of 1,280 at 200 %
        page.set_viewport_size({"width": width, "height": 700})
        page.wait_for_function("(width) => innerWidth === width", arg=width)
        if path == "/":
            expect(page.locator(".answer td").last).to_be_visible()
        assert page.evaluate(FITS)
        if path == "/":
            page.get_by_label("Settings").click()
            expect(page.get_by_label("Access code")).to_be_visible()
            box = page.locator(".sheet").bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            page.keyboard.press("Escape")


def test_nothing_is_wider_than_the_smallest_phone_while_an_answer_comes(page: Page, service: Service) -> None:
    page.set_viewport_size({"width": 320, "height": 568})
    rest = gated(service, TOO_WIDE, "The end.")
    ask(page)
    expect(page.locator(".answer td").last).to_be_visible()
    expect(page.get_by_role("button", name="Stop generating")).to_be_visible()
    assert page.evaluate(FITS)
    rest.set()
    expect(page.locator(".answer")).to_contain_text("The end.")


@on_a_phone
def test_text_at_twice_its_size_fits_the_smallest_phone_and_so_does_the_questions_box(
    page: Page, service: Service
) -> None:
    page.set_viewport_size({"width": 320, "height": 568})
    page.context.new_cdp_session(page).send("Page.setFontSizes", {"fontSizes": {"standard": 32}})
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 32
    assert page.evaluate(FITS)
    end = gated(service, ANSWER, "\nThe end.")
    ask(page)
    expect(page.get_by_role("button", name="Stop generating")).to_be_visible()
    expect(page.locator(".answer pre")).to_be_visible()
    assert page.evaluate(FITS)
    end.set()
    expect(page.locator(".answer")).to_contain_text("The end.")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert page.evaluate(FITS)
    box = page.get_by_role("textbox", name="Your question").bounding_box()
    assert box
    assert box["width"] > 160
    expect(page.get_by_text("AI can be wrong. Check what matters.")).to_be_visible()


@on_a_phone
def test_low_screen_opens_at_its_top_and_settings_close_where_one_taps_beside_them(page: Page) -> None:
    page.set_viewport_size({"width": 740, "height": 360})
    page.reload()
    assert page.evaluate("scrollY") == 0
    page.get_by_label("Settings").click()
    expect(page.get_by_label("Access code")).to_be_visible()
    page.get_by_role("heading", name="Stuck on a page?").click()
    expect(page.get_by_label("Access code")).to_be_hidden()

"""How the page looks: on the narrowest phones, under a finger, on paper and without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.web.conftest import ask, gated, on_a_phone, script

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.end_to_end.conftest import Service

FITS = "document.documentElement.scrollWidth <= innerWidth"
REACTION = r"$\ce{CO3^2- + 2H+ + 4NaOH + HCl -> CO2 ^ + H2O}$"  # TeX has no place to break it


@on_a_phone
@pytest.mark.parametrize("block", ["So {}.", "- So {}.", "> So {}."], ids=["paragraph", "list", "quotation"])
def test_formula_that_cannot_be_broken_is_scrolled_in_its_place_and_not_with_the_page(
    page: Page, service: Service, block: str
) -> None:
    page.set_viewport_size({"width": 280, "height": 653})
    rest = gated(service, f"{block.format(REACTION)}\n\n", "The end.")
    ask(page)
    expect(page.locator(".answer .katex")).to_be_visible()
    assert page.evaluate(FITS)
    rest.set()
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert page.evaluate(FITS)
    place = page.locator(".answer > *").first
    assert place.evaluate("(element) => element.scrollWidth > element.clientWidth && element.tabIndex === 0")
    assert place.evaluate("(element) => element.scrollHeight === element.clientHeight")


COLUMNS = "| n | half | so |\n|:--|--:|:-:|\n| 1 | $\\frac{1}{2} = 0.5$ | yes |\n"


@on_a_phone
def test_columns_of_a_table_are_aligned_as_the_model_wrote_them(page: Page, service: Service) -> None:
    """By classes: the policy blocks styles, which the fixture would tell of."""
    script(service, COLUMNS)
    ask(page)
    expect(page.locator(".answer td")).to_have_count(3)
    sides = "(cells) => cells.map((cell) => getComputedStyle(cell).textAlign)"
    assert page.locator(".answer td").evaluate_all(sides) == ["start", "right", "center"]
    assert page.locator(".answer th").evaluate_all(sides) == ["start", "right", "center"]


@on_a_phone
def test_head_of_the_page_is_one_line_on_the_narrowest_phone_and_its_button_is_not_covered(page: Page) -> None:
    page.set_viewport_size({"width": 280, "height": 653})
    new_page = page.get_by_role("button", name="New page").bounding_box()
    settings = page.get_by_label("Settings").bounding_box()
    add = page.get_by_text("Take or choose a picture").bounding_box()
    composer = page.get_by_role("form").bounding_box()
    assert new_page
    assert settings
    assert add
    assert composer
    assert settings["y"] == new_page["y"]
    assert add["y"] + add["height"] <= composer["y"]


@on_a_phone
def test_phone_does_not_zoom_into_any_field(page: Page) -> None:
    """As iOS does where letters are smaller than 16 pixels."""
    page.get_by_label("Settings").click()
    sizes = "(fields) => fields.map((field) => parseFloat(getComputedStyle(field).fontSize))"
    found = page.locator("select, textarea, input[type=password]").evaluate_all(sizes)
    assert len(found) == 3
    assert min(found) >= 16


def test_what_a_finger_has_touched_does_not_stay_marked(browser: Browser, service: Service) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(service.url)
        page.get_by_role("button", name="New page").hover()  # as a phone's browser goes on to say
        colour = "(button) => getComputedStyle(button).backgroundColor"
        assert page.get_by_role("button", name="New page").evaluate(colour) == "rgba(0, 0, 0, 0)"


@on_a_phone
def test_questions_and_answers_alone_are_printed_in_black_and_as_wide_as_they_are(page: Page, service: Service) -> None:
    script(service, f"So $x = 5$.\n\n```\n{'x' * 200}\n```\n")
    ask(page)
    expect(page.get_by_role("button", name="Copy the answer")).to_be_visible()
    page.emulate_media(media="print", color_scheme="dark")
    for gone in ("banner", "form", "button"):
        expect(page.get_by_role(gone)).to_have_count(0)
    expect(page.get_by_role("article", name="Your question")).to_be_visible()
    code = page.locator(".answer pre")
    assert code.evaluate("(element) => element.scrollWidth <= element.clientWidth")
    colours = (
        "(element) => { const {color, backgroundColor} = getComputedStyle(element); return [color, backgroundColor]; }"
    )
    assert page.locator("body").evaluate(colours) == ["rgb(29, 36, 48)", "rgb(255, 255, 255)"]


def test_page_without_scripts_says_so_at_its_top(browser: Browser, service: Service) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(service.url)
        told = page.locator("noscript p").bounding_box()
        assert told
        assert told["y"] < 100

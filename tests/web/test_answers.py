"""What models write, as students see it: products, chemistry, links, and lists that run from right to left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from engine_grpc.prompt import _BY_SUBJECT as SUBJECTS
from tests.web.conftest import ask, on_a_phone, script

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service

PRODUCTS = "So 2*3*4 = (2)*a*(b) = x**2 + y**2, **bold**, *so*, go**es** and 答案是**42**。"


@on_a_phone
def test_multiplication_signs_and_powers_stay_and_emphasis_is_still_emphasis(page: Page, service: Service) -> None:
    script(service, PRODUCTS)
    ask(page)
    expect(page.locator(".answer")).to_have_text("So 2*3*4 = (2)*a*(b) = x**2 + y**2, bold, so, goes and 答案是42。")
    assert page.locator(".answer :is(strong, em)").all_text_contents() == ["bold", "so", "es", "42"]


CHEMISTRY = "$\\ce{2H2 + O2 -> 2H2O}$ and $\\pu{5 m/s}$\n\n\\begin{align}\nx &= 5\\\\\ny &= 6\n\\end{align}\n"


@on_a_phone
def test_chemistry_units_and_bare_environments_are_drawn(page: Page, service: Service) -> None:
    script(service, CHEMISTRY)
    ask(page)
    expect(page.locator(".answer .katex")).to_have_count(3)
    drawn = page.locator(".answer .katex-html").all_inner_texts()
    assert not [text for text in drawn if "\\" in text]
    assert page.locator(".answer .katex-display").count() == 1
    page.emulate_media(forced_colors="active")
    room = page.locator(".katex [style*='transparent']").first  # left by TeX, and never to be seen
    assert room.evaluate("(element) => getComputedStyle(element).color") == "rgba(0, 0, 0, 0)"


@on_a_phone
def test_picture_from_elsewhere_is_a_link_with_its_name(page: Page, service: Service) -> None:
    script(service, "See ![the map](https://example.com/x.png).")
    ask(page)
    expect(page.locator(".answer")).to_have_text("See the map.")
    expect(page.get_by_role("link", name="the map")).to_have_attribute("href", "https://example.com/x.png")


ARABIC = "المعادلة:\n\n1. $3x = 15$\n2. إذن\n\n> اقتباس\n"
EDGES = """() => {
    const right = (selector) => document.querySelector(selector).getBoundingClientRect().right;
    const border = getComputedStyle(document.querySelector(".answer blockquote")).borderRightWidth;
    return [right(".answer li"), right(".answer li .katex"), border];
}"""


@on_a_phone
def test_formula_stays_beside_its_number_and_a_quotation_has_its_bar_at_its_beginning(
    page: Page, service: Service
) -> None:
    script(service, ARABIC)
    ask(page)
    expect(page.locator(".answer blockquote")).to_have_text("اقتباس")
    item, formula, border = page.evaluate(EDGES)
    assert abs(item - formula) < 2
    assert border == "3px"


@on_a_phone
def test_every_subject_that_the_tutor_knows_can_be_chosen(page: Page) -> None:
    values = page.locator("#subject option").evaluate_all("(options) => options.map((option) => option.value)")
    assert set(values) == {"general", *SUBJECTS}

"""Questions and answers that are written from right to left, with the maths and programs in them, which never are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests import upstream as up
from tests.web.conftest import ask

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service

QUESTION = "ما هو x في المعادلة (1)؟"
ANSWER = "المعادلة $3x + 7 = 22$ إذن `x = 5`.\n\n1. اطرح 7\n\nIn English: $y + 1 = 2$.\n"
LEFT = "(parts) => parts.map((part) => part.getBoundingClientRect().left)"


def direction(page: Page, selector: str) -> str:
    return str(page.locator(selector).first.evaluate("(element) => getComputedStyle(element).direction"))


def test_text_runs_as_its_language_does_and_formulas_from_left_to_right(page: Page, service: Service) -> None:
    page.get_by_role("textbox", name="Your question").fill(QUESTION)
    assert direction(page, "#prompt") == "rtl"
    service.upstream.script(up.stream_headers(), up.chunk(ANSWER), up.finish(), up.done())
    ask(page, QUESTION)
    expect(page.locator(".answer .katex")).to_have_count(2)
    assert direction(page, ".question") == direction(page, ".answer li") == "rtl"
    for number in range(2):
        pieces = page.locator(".answer .katex").nth(number).locator(".base").evaluate_all(LEFT)
        assert len(pieces) > 1
        assert pieces == sorted(pieces)
    assert direction(page, ".answer code") == "ltr"
    # A paragraph in another language than the first is where its own language has it.
    text, block = page.evaluate("""() => {
        const paragraph = [...document.querySelectorAll(".answer > p")].at(-1);
        const range = document.createRange();
        range.selectNodeContents(paragraph);
        return [range.getBoundingClientRect().left, paragraph.getBoundingClientRect().left];
    }""")
    assert text == block

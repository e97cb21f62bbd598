"""Where the page is scrolled to: with the answer for those who look at its end, and nowhere for all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests import upstream as up
from tests.upstream import Signal
from tests.web.conftest import ask, gated, on_a_phone, script

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service

LONG = "A line of the answer.\n\n" * 60
TO_THE_END = "document.documentElement.scrollHeight - innerHeight - scrollY"
IS_AT_END = f"{TO_THE_END} < 2"


def wait_until(page: Page, condition: str) -> None:
    """Looks once a frame: Playwright's own wait evaluates a string, which the page's policy blocks."""
    look = f"const look = () => ({condition}) ? done() : requestAnimationFrame(look); look();"
    page.evaluate(f"new Promise((done, late) => {{ setTimeout(late, 10_000, 'not in time'); {look} }})")


def scroll(page: Page, pixels: int) -> None:
    """As with a wheel, and returns when the page has moved."""
    page.mouse.move(100, 200)
    page.evaluate("void (window.moved = new Promise((done) => addEventListener('scroll', done, {once: true})))")
    page.mouse.wheel(0, pixels)
    page.evaluate("window.moved")


@on_a_phone
def test_page_stays_where_it_is_scrolled_up_to_however_little_and_follows_again_from_the_end(
    page: Page, service: Service
) -> None:
    second, third = Signal(), Signal()
    service.upstream.script(
        *[up.stream_headers(), up.chunk(LONG), up.gate(second), up.chunk(f"{LONG}Second.\n\n")],
        *[up.gate(third), up.chunk(f"{LONG}Third."), up.finish(), up.done()],
    )
    ask(page)
    wait_until(page, f"document.querySelectorAll('.answer p').length === 60 && {IS_AT_END}")
    scroll(page, -40)
    left_at = page.evaluate("scrollY")
    second.set()
    expect(page.locator(".answer")).to_contain_text("Second.")
    assert page.evaluate("scrollY") == left_at
    scroll(page, 20_000)
    third.set()
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert page.evaluate(IS_AT_END)
    expect(page.locator(".answer p").last).to_be_in_viewport()


@on_a_phone
def test_answer_is_followed_where_the_page_was_longer_before_it_was_asked(page: Page, service: Service) -> None:
    """As with large letters, or on a low screen: what is shown to begin with has gone."""
    page.context.new_cdp_session(page).send("Page.setFontSizes", {"fontSizes": {"standard": 32}})
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    first = Signal()
    service.upstream.script(up.stream_headers(), up.gate(first), up.chunk(f"{LONG}The end."), up.finish(), up.done())
    ask(page)
    expect(page.locator(".state")).to_contain_text("Reading your page")
    wait_until(page, IS_AT_END)
    first.set()
    expect(page.locator(".answer").get_by_text("The end.")).to_be_in_viewport()


@on_a_phone
def test_end_of_the_answer_stays_in_view_when_the_phone_is_turned(page: Page, service: Service) -> None:
    rest = gated(service, "Some words that are wrapped on a phone that is held upright. " * 100, "The end.")
    ask(page)
    wait_until(page, f"scrollY > 500 && {IS_AT_END}")
    page.set_viewport_size({"width": 740, "height": 360})
    wait_until(page, IS_AT_END)
    page.set_viewport_size({"width": 360, "height": 740})
    wait_until(page, IS_AT_END)
    rest.set()
    expect(page.locator(".answer p")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    assert page.evaluate(IS_AT_END)


@on_a_phone
def test_offline_is_told_where_one_has_scrolled_to(page: Page, service: Service) -> None:
    script(service, LONG)
    ask(page)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline. What you ask")).to_be_in_viewport(ratio=1)
    page.context.set_offline(False)


@on_a_phone
def test_access_code_is_asked_for_at_the_answer_and_its_answer_is_in_view(page: Page, service: Service) -> None:
    script(service, LONG)
    ask(page)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    refusal = {"success": False, "code": "UNAUTHENTICATED", "retryable": False}
    page.route("**/api/ai/chat-image-stream", lambda route: route.fulfill(status=401, json=refusal), times=1)
    ask(page, "And?", picture=False)
    page.get_by_role("button", name="Enter the code").click()
    expect(page.get_by_label("Access code")).to_be_focused()
    page.keyboard.type("right")
    rest = gated(service, LONG, "The end.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop generating")).to_be_focused()
    rest.set()
    expect(page.locator(".answer").last.get_by_text("The end.")).to_be_in_viewport()

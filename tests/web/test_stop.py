"""Stop, pressed before there is anything to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests import upstream as up
from tests.processes import running_engine_process, running_gateway_process
from tests.upstream import Signal
from tests.web.conftest import ask

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service


def stop_and_expect_a_page_that_is_ready(page: Page) -> None:
    page.get_by_role("button", name="Stop generating").click()
    expect(page.locator(".state")).to_have_text("Stopped.")
    expect(page.locator("#said")).to_have_text("Stopped. You can ask your next question.")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    prompt = page.get_by_role("textbox", name="Your question")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value("What is x?")  # to be put right
    expect(page.get_by_alt_text("Your picture")).to_be_visible()


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "in one reply"])
def test_stop_before_the_first_word_ends_the_model_and_the_next_question_is_answered(
    page: Page, service: Service, *, streaming: bool
) -> None:
    if not streaming:
        page.get_by_label("Settings").click()
        page.get_by_role("switch").uncheck()
        page.keyboard.press("Escape")
    service.upstream.script(up.stream_headers(), up.silence())
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        ask(page)
        service.upstream.block_request()
        stop_and_expect_a_page_that_is_ready(page)
    assert deleted.value.status == 204
    service.upstream.requests[-1].closed.block()
    service.upstream.script(up.stream_headers(), up.chunk("x is 5."), up.finish(), up.done())
    page.keyboard.press("Enter")
    expect(page.locator(".answer").last).to_have_text("x is 5.")
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    assert len(service.upstream.requests) == 2


def test_stop_before_the_answer_has_a_name_ends_the_model_as_soon_as_it_has_one(page: Page, service: Service) -> None:
    """With a second model it is not known before the first text which of them answers, and `start` waits for that."""
    first_word = Signal()
    upstream = service.upstream
    upstream.script(up.stream_headers(), up.gate(first_word), up.chunk("x"), up.silence())
    fallback = {"OPENAI_FALLBACK_MODEL": "another", "OPENAI_FALLBACK_BASE_URL": upstream.base_url}
    with (
        running_engine_process(upstream.base_url, **fallback) as engine,
        running_gateway_process(engine) as gateway,
    ):
        page.goto(f"http://127.0.0.1:{gateway.port}")
        deleted: list[str] = []
        page.on("request", lambda request: deleted.append(request.method) if request.method == "DELETE" else None)
        ask(page)
        upstream.block_request()
        stop_and_expect_a_page_that_is_ready(page)
        assert deleted == []
        with page.expect_response(lambda response: response.request.method == "DELETE"):
            first_word.set()
        upstream.requests[-1].closed.block()
    expect(page.locator(".state")).to_have_text("Stopped.")


def test_question_stopped_without_a_network_is_not_sent_when_it_is_back(page: Page, service: Service) -> None:
    page.context.set_offline(True)
    ask(page)
    expect(page.locator(".state")).to_contain_text("You are offline")
    stop_and_expect_a_page_that_is_ready(page)
    page.context.set_offline(False)
    expect(page.get_by_text("You are offline. What you ask")).to_be_hidden()
    service.upstream.script(up.stream_headers(), up.chunk("x is 5."), up.finish(), up.done())
    page.keyboard.press("Enter")
    expect(page.locator(".answer").last).to_have_text("x is 5.")
    assert len(service.upstream.requests) == 1


def test_new_page_stops_the_answer_that_is_being_written(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("So far."), up.silence())
    ask(page)
    expect(page.locator(".answer")).to_have_text("So far.")
    page.get_by_role("button", name="New page").click()
    service.upstream.requests[-1].closed.block()
    expect(page.get_by_role("heading", name="Stuck on a page?")).to_be_visible()
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    page.get_by_role("button", name="Back to the page before").click()
    expect(page.locator(".answer")).to_have_text("So far.")
    expect(page.locator(".state")).to_have_text("Stopped.")

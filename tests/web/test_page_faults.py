"""The page where something on the way fails: it says so, goes on, and has the model asked once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests import upstream as up
from tests.processes import running_gateway_process
from tests.web.conftest import ask, gated, on_a_phone, script

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.end_to_end.conftest import Service


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
    expect(page.locator("#said")).to_have_text("You are offline. I go on when you are back.")
    page.context.set_offline(False)
    expect(page.locator(".answer")).to_have_text("x is 5.")


def lose_the_session(page: Page) -> None:
    """The next question goes to a service that has begun anew, and knows no session."""

    def forget(route: Route) -> None:
        route.continue_(post_data={**json.loads(route.request.post_data or ""), "session_id": "another"})

    page.route("**/api/ai/chat-image-stream", forget, times=1)


@on_a_phone
def test_picture_that_the_service_has_lost_is_sent_again(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    ask(page)
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    lose_the_session(page)
    script(service, "Because.")
    ask(page, "Why?", picture=False)
    expect(page.locator(".answer").last).to_have_text("Because.")
    assert "image_url" in json.dumps(service.upstream.requests[-1].json["messages"])


@on_a_phone
def test_picture_that_is_lost_on_both_sides_is_asked_for_and_the_question_kept(page: Page, service: Service) -> None:
    script(service, "x is 5.")
    ask(page)
    expect(page.locator("#said")).to_have_text("The answer: x is 5.")
    page.reload()
    lose_the_session(page)
    ask(page, "Why?", picture=False)
    expect(page.locator(".state").last).to_have_text("I no longer have your page. Add the picture again.")
    expect(page.get_by_label("Take or choose a picture")).to_be_focused()
    expect(page.get_by_role("textbox", name="Your question")).to_have_value("Why?")
    script(service, "Because.")
    ask(page, "Why?")
    expect(page.locator(".answer").last).to_have_text("Because.")


@on_a_phone
def test_access_code_that_is_not_accepted_is_told_so_and_enter_tries_the_next(page: Page, service: Service) -> None:
    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"success": False, "code": "UNAUTHENTICATED", "retryable": False})

    page.route("**/api/ai/chat-image-stream", guard)
    ask(page)
    expect(page.locator(".state")).to_contain_text("Please enter your access code in the settings.")
    script(service, "x is 5.")
    for code, outcome in (("wrong", "That code is not accepted."), ("right", "x is 5.")):
        page.get_by_label("Settings").click()
        page.get_by_label("Access code").fill(code)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Access code")).to_be_hidden()
        expect(page.locator("#turns")).to_contain_text(outcome)


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

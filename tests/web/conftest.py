"""The page in Debian's Chromium, in front of the whole service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import upstream as up
from tests.chromium import running_chromium
from tests.end_to_end.conftest import WORKSHEET, Service
from tests.processes import running_engine_process, running_gateway_process
from tests.upstream import Signal, running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

PHONE: Any = {"width": 360, "height": 740}
DESKTOP: Any = {"width": 1280, "height": 800}
expect.set_options(timeout=10_000)

on_a_phone = pytest.mark.parametrize("page", [PHONE], ids=["phone"], indirect=True)
"""For what is the same at every size."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ended with the module, see `running_chromium`."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running_service() -> Iterator[Service]:
    with (
        running_upstream() as upstream,
        running_engine_process(upstream.base_url) as engine,
        running_gateway_process(engine, HEARTBEAT_SECONDS="0.2") as gateway,
    ):
        yield Service(upstream, engine, gateway)


@pytest.fixture
def service(running_service: Service) -> Service:
    running_service.upstream.forget()
    return running_service


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page for students. What its policy blocks, and what it throws, fails the test."""
    with browser.new_context(viewport=request.param) as context:
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if "Content Security Policy" in told.text else None)
        page.goto(service.url)
        yield page
        assert faults == []


def ask(page: Page, prompt: str = "What is x?", *, picture: bool = True) -> None:
    """Asks as a student does."""
    if picture:
        page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
        expect(page.get_by_alt_text("Your picture")).to_be_visible()
    page.get_by_role("textbox", name="Your question").fill(prompt)
    page.get_by_role("button", name="Ask").click()


def script(service: Service, *pieces: str) -> None:
    service.upstream.script(up.stream_headers(), *map(up.chunk, pieces), up.finish(), up.usage(7, 3), up.done())


def gated(service: Service, first: str, rest: str) -> Signal:
    """The model says `first`, and `rest` when the signal is set."""
    opened = Signal()
    service.upstream.script(
        up.stream_headers(), up.chunk(first), up.gate(opened), up.chunk(rest), up.finish(), up.done()
    )
    return opened

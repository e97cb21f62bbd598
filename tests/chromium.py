"""Debian's Chromium without its window: the engine, and not the rest of a browser, drawn for nobody."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.end_to_end.conftest import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """While it is there it keeps a loop running, in which no other test can run its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=tool("chromium-headless-shell"),
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )
        yield browser
        browser.close()

"""How the page's files are sent: compressed, kept by the browser, and under a policy that lets in nothing else."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import brotli
import pytest
import requests
import zstandard
from playwright.sync_api import expect

from tests import upstream as up
from tests.web.conftest import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, Page

    from tests.end_to_end.conftest import Service

DECODE: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstandard.ZstdDecompressor().decompress(body),
    "br": brotli.decompress,
    "gzip": lambda body: zlib.decompress(body, 16 + 15),
}


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=10)


def script_url(service: Service) -> str:
    found = re.search(r'src="(/web/\w+/js/main.js)"', get(service.url).text)
    assert found
    return service.url + found[1]


@pytest.mark.parametrize("coding", DECODE)
def test_files_are_compressed_as_the_client_accepts(service: Service, coding: str) -> None:
    url = script_url(service).replace("js/main.js", "vendor/katex.js")
    plain = get(url, Accept_Encoding="identity").content
    with requests.get(url, headers={"Accept-Encoding": coding}, stream=True, timeout=10) as response:
        body = response.raw.read(decode_content=False)
    assert response.headers["Content-Encoding"] == coding
    assert response.headers["Vary"] == "Accept-Encoding"
    assert DECODE[coding](body) == plain
    assert len(body) < len(plain) / 3


def test_browser_gets_the_smallest_of_the_codings_that_it_knows(service: Service) -> None:
    response = get(script_url(service), Accept_Encoding="gzip, deflate, br, zstd")
    assert response.headers["Content-Encoding"] == "br"


def test_files_are_kept_for_ever_under_their_version_and_pages_are_asked_for_again(service: Service) -> None:
    assert get(script_url(service)).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    page = get(service.url)
    assert page.headers["Cache-Control"] == "no-cache"
    unchanged = get(service.url, If_None_Match=page.headers["ETag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_file_of_another_version_is_what_there_is_and_is_not_kept(service: Service) -> None:
    versioned = script_url(service)
    other = get(re.sub(r"/web/\w+/", "/web/0123456789ab/", versioned))
    assert other.headers["Cache-Control"] == "no-cache"
    assert other.content == get(versioned).content


SIZES = "performance.getEntries().filter((e) => e.name.startsWith('http')).map((e) => [e.name, e.transferSize])"


def test_first_load_is_small_and_asks_nobody_else_and_the_next_loads_the_page_alone(
    browser: Browser, service: Service
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(service.url, wait_until="networkidle")
        assert all(url.startswith(service.url) for url in asked)
        assert 50_000 < sum(size for _, size in page.evaluate(SIZES)) < 300_000
        page.goto(f"{service.url}/playground")
        page.goto(service.url, wait_until="networkidle")
        loaded = [name for name, size in page.evaluate(SIZES) if size > 0]
        assert loaded == [f"{service.url}/"]


def test_markup_gets_into_the_page_through_the_sanitiser_alone(page: Page, service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("**x** is $5$."), up.finish(), up.done())
    ask(page)
    expect(page.locator(".answer .katex")).to_be_visible()
    refused = page.evaluate("""() => {
        const tries = [
            () => { document.createElement("p").innerHTML = "<b>x</b>"; },
            () => trustedTypes.createPolicy("mine", {}),
        ];
        return tries.map((attempt) => { try { attempt(); return null; } catch (error) { return error.name; } });
    }""")
    assert refused == ["TypeError", "TypeError"]

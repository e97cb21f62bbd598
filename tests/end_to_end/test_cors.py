"""A page of another origin, in a real browser: it streams where the gateway lets it, and reads nothing where not."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from playwright.sync_api import Error

from tests import upstream as up
from tests.chromium import running_chromium
from tests.end_to_end.conftest import body
from tests.processes import Process, running_gateway_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service

SECRET = "0123456789abcdef" * 2
ASK = """async ([url, headers, body]) => {
  const reply = await fetch(url, {method: "POST", headers, body});
  return {
    status: reply.status,
    left: reply.headers.get("RateLimit"),
    id: reply.headers.get("X-Request-Id"),
    text: await reply.text(),
  };
}"""


@pytest.fixture(scope="module")
def page(running_service: Service) -> Iterator[Page]:
    """A page whose origin is the shared gateway's."""
    with running_chromium() as browser:
        page = browser.new_page()
        page.goto(f"{running_service.url}/healthz")
        yield page


@pytest.fixture(scope="module")
def strict(running_service: Service) -> Iterator[Process]:
    """Another gateway, which lets that page ask, with a token and not too often."""
    with running_gateway_process(
        running_service.engine, CORS_ALLOW_ORIGINS=running_service.url, AUTH_JWT_KEY=SECRET, RATE_LIMIT="2/hour"
    ) as process:
        yield process


def ask(page: Page, gateway: Process, **headers: str) -> Any:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1", "X-Request-Id": "req-1", **headers}
    url = f"http://127.0.0.1:{gateway.port}/api/ai/chat-image-stream"
    return page.evaluate(ASK, [url, headers, json.dumps(body())])


def test_page_streams_from_another_origin_that_lets_it(service: Service, page: Page, strict: Process) -> None:
    token = jwt.encode({"sub": "student-42", "exp": time.time() + 60}, SECRET)
    service.upstream.script(*up.answer("x", " = 6"))
    reply = ask(page, strict, Authorization=f"Bearer {token}")
    assert (reply["status"], reply["id"]) == (200, "req-1")
    assert re.fullmatch(r'"default";r=1;t=\d+', reply["left"])
    events = [json.loads(line[6:]) for line in reply["text"].split("\n") if line.startswith("data: ")]
    assert (events[-1]["type"], events[-1]["content"]) == ("end", "x = 6")


def test_page_reads_why_it_is_refused(page: Page, strict: Process) -> None:
    reply = ask(page, strict)
    assert (reply["status"], json.loads(reply["text"])["code"]) == (401, "UNAUTHENTICATED")


def test_page_reads_nothing_where_it_is_not_let_in(service: Service, page: Page) -> None:
    with running_gateway_process(service.engine) as gateway:
        with pytest.raises(Error, match="Failed to fetch"):
            ask(page, gateway)
        assert '"POST"' not in gateway.log
    with running_gateway_process(service.engine, CORS_ALLOW_ORIGINS="https://app.example") as gateway:
        with pytest.raises(Error, match="Failed to fetch"):
            ask(page, gateway)
        assert '"POST"' not in gateway.log
    assert not service.upstream.requests

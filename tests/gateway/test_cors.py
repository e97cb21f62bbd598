"""Which pages of other origins may use the gateway from a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.test_fallback import ANSWER
from tests.gateway.tokens import SECRET, bearer, token
from tests.gateway.wire import FALLBACK, STREAM, Connection, connect, question

if TYPE_CHECKING:
    from tests.gateway.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = "https://app.example"
SETTINGS = {
    "cors_allow_origins": f"{PAGE}, http://localhost:5173",
    "auth_jwt_key": SECRET,
    "rate_limit": "100/hour",
}
"""The module's gateway lets one page's origin use it, with a token."""
SENT = "authorization, content-type, idempotency-key, last-event-id, x-request-id, x-request-timeout-ms"
READ = {"x-request-id", "retry-after", "ratelimit", "ratelimit-policy"}


async def preflight(client: Connection, origin: str = PAGE, method: str = "POST", headers: str = SENT) -> None:
    await client.send(
        "OPTIONS",
        STREAM,
        origin=origin,
        access_control_request_method=method,
        access_control_request_headers=headers,
    )
    await client.read_head()
    await client.read_body()


def assert_readable(client: Connection) -> None:
    assert client.headers["access-control-allow-origin"] == PAGE
    assert set(client.headers["access-control-expose-headers"].split(", ")) >= READ
    assert "origin" in client.headers["vary"]
    assert "access-control-allow-credentials" not in client.headers


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_page_may_ask_with_every_header_there_is(gateway: RunningGateway, method: str) -> None:
    async with connect(gateway.port) as client:
        await preflight(client, method=method)
    assert client.status == 200
    assert client.headers["access-control-allow-origin"] == PAGE
    assert client.headers["x-request-id"]
    assert set(SENT.split(", ")) <= set(client.headers["access-control-allow-headers"].split(", "))


async def test_other_pages_methods_and_headers_are_refused(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        for page in ("https://evil.example", "https://app.example.evil", "https://app.example:444", "null"):
            await preflight(client, page)
            assert client.status == 400
            assert "access-control-allow-origin" not in client.headers
        await preflight(client, method="PUT")
        assert client.status == 400
        await preflight(client, headers="x-other")
        assert client.status == 400


async def test_page_can_read_answers(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, origin=PAGE, **bearer(token())) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
    await call.cancelled.wait()
    assert client.status == 200
    assert_readable(client)
    assert "accept-encoding" in client.headers["vary"]


async def test_page_can_read_why_it_is_refused(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, origin=PAGE) as client:
        await client.read_head()
    assert client.status == 401
    assert_readable(client)
    good = bearer(token())
    async with gateway.post(FALLBACK, question(prompt=""), origin=PAGE, **good) as client:
        await client.read_head()
    assert client.status == 400
    assert_readable(client)
    async with gateway.get("/nothing", origin=PAGE) as client:
        pass
    assert client.status == 404
    assert_readable(client)


async def test_page_can_read_of_a_failure_inside(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    async with running_gateway(engine.url, cors_allow_origins=PAGE) as gateway:
        monkeypatch.setattr("sse_gateway.chat.answer_reply", fail)
        async with gateway.post(FALLBACK, origin=PAGE) as client:
            (await engine.next_call()).close(ANSWER)
            await client.read_head()
    assert client.status == 500
    assert_readable(client)


async def test_page_can_read_that_the_gateway_drains(engine: FakeEngine) -> None:
    async with running_gateway(engine.url, cors_allow_origins=PAGE) as gateway:
        gateway.lifecycle.draining = True
        async with gateway.post(STREAM, origin=PAGE) as client:
            await client.read_head()
        gateway.lifecycle.draining = False
    assert client.status == 503
    assert_readable(client)


async def test_other_page_cannot_read_anything(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, origin="https://evil.example") as client:
        await client.read_head()
    assert "access-control-allow-origin" not in client.headers


async def test_every_page_may_where_that_is_set(engine: FakeEngine) -> None:
    async with running_gateway(engine.url, cors_allow_origins="*") as gateway, connect(gateway.port) as client:
        await preflight(client, "https://any.example")
        assert (client.status, client.headers["access-control-allow-origin"]) == (200, "*")


async def test_no_page_may_by_default(engine: FakeEngine) -> None:
    async with running_gateway(engine.url) as gateway, connect(gateway.port) as client:
        await preflight(client)
        assert client.status == 405
        assert not [name for name in client.headers if name.startswith("access-control")]

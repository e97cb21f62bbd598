"""What nobody expected: told in fixed words, logged once, without a word of the request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import pytest
from studyai.v1.chat_pb2 import ChatImageResponse

from sse_gateway.app import create_app
from sse_gateway.channel import EngineAccess
from sse_gateway.engine import EngineClient
from sse_gateway.lifecycle import Lifecycle
from sse_gateway.settings import GatewaySettings
from tests.gateway.conftest import logged, running_gateway
from tests.gateway.fake_engine import STARTED
from tests.gateway.wire import FALLBACK, STREAM, events_in, question

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message
    from studyai.v1.chat_pb2 import ChatImageRequest, CompleteChatImageRequest, CompleteChatImageResponse

    from sse_gateway.engine import CallOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")


class BrokenEngine(EngineClient):
    """Fails as no engine does, quoting what it was asked."""

    def __init__(self, *, starts: bool) -> None:
        super().__init__([], EngineAccess())
        self._starts = starts

    async def stream(self, request: ChatImageRequest, options: CallOptions) -> AsyncGenerator[ChatImageResponse, None]:
        if self._starts:
            yield ChatImageResponse(started=STARTED)
        raise ValueError(request.question.prompt)

    async def complete(self, request: CompleteChatImageRequest, options: CallOptions) -> CompleteChatImageResponse:
        raise ValueError(request.question.prompt)


def assert_logged_once(lines: list[str]) -> None:
    records = [json.loads(line) for line in lines]
    (failure,) = [record for record in records if record["level"] == "error"]
    assert failure["error"] == "ValueError"
    assert any("test_boundary.py" in place for place in failure["places"])
    (access,) = [record for record in records if record["event"] == "request ended"]
    assert access["outcome"] == "INTERNAL"
    assert access["request_id"] == failure["request_id"]
    assert "canary" not in str(lines)


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_exception_before_the_start_is_an_internal_error(path: str) -> None:
    with logged() as lines:
        serving = running_gateway(client=BrokenEngine(starts=False))
        async with serving as gateway, gateway.post(path, question(prompt="canary")) as client:
            await client.read_head()
            reply = await client.read_json()
            await gateway.rest()
    assert (client.status, reply["code"], client.headers["x-request-id"]) == (500, "INTERNAL", reply["request_id"])
    assert "canary" not in str(reply)
    assert_logged_once(lines())


async def test_exception_after_the_start_is_an_error_event() -> None:
    with logged() as lines:
        serving = running_gateway(client=BrokenEngine(starts=True))
        async with serving as gateway, gateway.post(STREAM, question(prompt="canary")) as client:
            await client.read_head()
            events = events_in(await client.read_body())
            await gateway.rest()
    assert [event["type"] for event in events] == ["start", "error"]
    assert events[1]["code"] == "INTERNAL"
    assert "canary" not in str(events)
    assert_logged_once(lines())


async def test_failure_to_start_is_told_as_what_it_is() -> None:
    class Unstartable(EngineClient):
        async def __aenter__(self) -> NoReturn:
            raise OSError("a file cannot be read")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        told.append(message)

    told: list[Message] = []
    app = create_app(GatewaySettings(_env_file=None), Unstartable([], EngineAccess()), Lifecycle())
    with pytest.raises(OSError, match="a file cannot be read"):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in told] == ["lifespan.startup.failed"]

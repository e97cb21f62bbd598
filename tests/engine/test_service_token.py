"""Who may call an engine that has a service token, and what the others are told."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from studyai.v1 import chat_pb2

from engine_grpc import metrics
from engine_grpc.log import configure_logging
from tests.engine.harness import complete_request, error_info, read, request, retry_info, running_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.engine.harness import RunningEngine
    from tests.upstream import Upstream

FIRST, SECOND = "canary-first-0123456789abcdefghijkl", "canary-second-0123456789abcdefghijkl"
CHAT = "/studyai.v1.ChatService"


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[RunningEngine]:
    async with running_engine(upstream, service_token=f"{FIRST}, {SECOND}") as running:
        yield running


@pytest.fixture
async def channel(engine: RunningEngine) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{engine.port}") as opened:
        yield opened


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize("token", [FIRST, SECOND])
async def test_each_of_the_tokens_lets_a_call_in(engine: RunningEngine, token: str) -> None:
    assert (await read(engine.stub.ChatImage(request(), metadata=bearer(token)))).error is None
    whole = await engine.stub.CompleteChatImage(complete_request(), metadata=bearer(token))
    assert whole.text


async def test_scheme_may_be_written_small(engine: RunningEngine) -> None:
    call = engine.stub.ChatImage(request(), metadata=(("authorization", f"bearer {FIRST}"),))
    assert (await read(call)).error is None


WRONG = {
    "no token": (),
    "another": bearer("x" * len(FIRST)),
    "longer": bearer(FIRST + "x"),
    "shorter": bearer(FIRST[:-1]),
    "nothing": bearer(""),
    "the whole setting": bearer(f"{FIRST}, {SECOND}"),
    "other case": bearer(FIRST.upper()),
    "no scheme": (("authorization", FIRST),),
    "other scheme": (("authorization", f"Basic {FIRST}"),),
    "two": bearer(FIRST) + bearer(SECOND),
    "in another place": (("x-token", FIRST),),
}


@pytest.mark.parametrize("metadata", WRONG.values(), ids=WRONG)
async def test_every_call_without_a_good_token_is_refused(
    engine: RunningEngine, upstream: Upstream, metadata: tuple[tuple[str, str], ...]
) -> None:
    calls: list[Any] = [
        engine.stub.ChatImage(request(), metadata=metadata),
        engine.stub.ResumeAnswer(chat_pb2.ResumeAnswerRequest(answer_id="a"), metadata=metadata),
    ]
    refusals = [(await read(call)).error for call in calls]
    calls = [
        engine.stub.CompleteChatImage(complete_request(), metadata=metadata),
        engine.stub.StopAnswer(chat_pb2.StopAnswerRequest(answer_id="a"), metadata=metadata),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        refusals.append(caught.value)
    for refusal in refusals:
        assert refusal is not None
        assert refusal.code() is grpc.StatusCode.UNAUTHENTICATED
        assert refusal.details() == "A valid service token is required."
        assert (error_info(refusal).domain, error_info(refusal).reason) == ("studyai", "UNAUTHENTICATED")
        assert retry_info(refusal) is None
    assert upstream.requests == []


async def test_call_is_refused_before_its_message_is_there(channel: grpc.aio.Channel) -> None:
    never = asyncio.Event()

    async def message() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    method: Any = channel.stream_unary(f"{CHAT}/CompleteChatImage")
    call = method(message())
    async with asyncio.timeout(5):
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_unknown_method_is_refused_like_any_other(channel: grpc.aio.Channel) -> None:
    for name in (f"{CHAT}/CanaryMethod", "/canary.Service/Method"):
        method: Any = channel.unary_unary(name)
        assert await _code(method, b"", ()) is grpc.StatusCode.UNAUTHENTICATED
        assert await _code(method, b"", bearer(FIRST)) is grpc.StatusCode.UNIMPLEMENTED


async def test_probe_needs_no_token(engine: RunningEngine) -> None:
    assert await engine.serving()


async def test_health_tells_a_caller_that_its_token_is_wrong(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    assert await _code(health.Check, health_pb2.HealthCheckRequest(), bearer(SECOND)) is grpc.StatusCode.OK
    for wrong in (bearer("x" * 40), (("authorization", "none"),)):
        code = await _code(health.Check, health_pb2.HealthCheckRequest(), wrong)
        assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_reflection_needs_the_token(channel: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    reflection = stub(channel)
    asks = [reflection_pb2.ServerReflectionRequest(list_services="")]
    refused = reflection.ServerReflectionInfo(iter(asks))
    assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED
    async for reply in reflection.ServerReflectionInfo(iter(asks), metadata=bearer(FIRST)):
        assert "studyai.v1.ChatService" in str(reply)


async def _code(method: Any, message: Any, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    call = method(message, metadata=metadata)
    code: grpc.StatusCode = await call.code()
    return code


async def test_engine_without_a_token_asks_for_none(upstream: Upstream) -> None:
    async with running_engine(upstream) as engine:
        assert (await read(engine.stub.ChatImage(request(), metadata=bearer("x" * 40)))).error is None


async def test_refusal_is_one_line_that_holds_no_token(engine: RunningEngine, channel: grpc.aio.Channel) -> None:
    with logged() as lines:
        metadata = (*bearer("canary-wrong-0123456789abcdefghijkl"), ("x-request-id", "call-8"))
        call = engine.stub.ChatImage(request(), metadata=metadata)
        await read(call)
        unknown: Any = channel.unary_unary("/canary.Service/Method")
        await _code(unknown, b"", ())
        await read(engine.stub.ChatImage(request(), metadata=bearer(FIRST)))
    text = lines()
    assert "canary" not in "".join(text)
    ended = [line for line in map(json.loads, text) if line["event"] == "call ended"]
    assert [(line["method"], line["code"]) for line in ended] == [
        ("ChatImage", "UNAUTHENTICATED"),
        ("unknown", "UNAUTHENTICATED"),
        ("ChatImage", "OK"),
    ]
    assert ended[0]["request_id"] == "call-8"
    assert len({line["request_id"] for line in ended}) == 3


@pytest.mark.parametrize(
    ("path", "method"), [(f"{CHAT}/StopAnswer", "StopAnswer"), ("/canary.Service/Method", "unknown")]
)
async def test_refused_call_is_counted(channel: grpc.aio.Channel, path: str, method: str) -> None:
    before = counted(method)
    await _code(channel.unary_unary(path), b"", ())
    assert counted(method) == before + 1


def counted(method: str) -> float:
    """How many calls were refused so far."""
    labels = {"method": method, "code": "UNAUTHENTICATED"}
    return metrics.REGISTRY.get_sample_value("studyai_calls_total", labels) or 0


@contextmanager
def logged() -> Iterator[Callable[[], list[str]]]:
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logging("debug", "json")
        yield lambda: stream.getvalue().splitlines()
    configure_logging("info", "json")

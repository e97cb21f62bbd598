"""An engine on a real port, in the test's own loop, in front of a scripted upstream."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from studyai.v1 import chat_pb2, chat_pb2_grpc

from engine_grpc.openai_model import OpenAIModel
from engine_grpc.registry import Answers
from engine_grpc.server import Engine, start_engine
from engine_grpc.settings import EngineSettings
from engine_grpc.tutor import Tutor
from engine_grpc.wiring import (
    deadlines,
    end_log,
    fallback_options,
    keeping,
    listening_credentials,
    model_options,
    state,
)
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from tests.upstream import Upstream

WORKSHEET = (Path(__file__).parents[1] / "data" / "worksheet.png").read_bytes()
KEY = "sk-canary-0123456789"
FIRST, SECOND = "gpt-5.4-mini", "second-model"
"""The models: the one that is asked first, and the fallback."""


class RunningEngine:
    """What a test does with an engine: ask, and look behind the scenes."""

    def __init__(self, engine: Engine, channel: grpc.aio.Channel) -> None:
        self.stub = chat_pb2_grpc.ChatServiceStub(channel)
        self.channel = channel
        self.answers = engine.answers
        self.calls = engine.calls
        self.port = engine.port
        self.stop = engine.stop
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    async def stream(self, **question: Any) -> Streamed:
        """Asks, and reads the stream to its end, whichever that is."""
        return await read(self.stub.ChatImage(request(**question)))

    async def serving(self, service: str = "") -> bool:
        """Whether the engine says that it is healthy."""
        reply = await self._health.Check(health_pb2.HealthCheckRequest(service=service))
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


class Streamed:
    """What a stream said."""

    def __init__(self) -> None:
        self.messages: list[chat_pb2.ChatImageResponse] = []
        self.error: grpc.aio.AioRpcError | None = None

    @property
    def deltas(self) -> list[str]:
        return [m.text_delta.text for m in self.messages if m.WhichOneof("event") == "text_delta"]

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    @property
    def finished(self) -> chat_pb2.AnswerFinished | None:
        last = self.messages[-1] if self.messages else None
        return last.finished if last is not None and last.WhichOneof("event") == "finished" else None

    @property
    def reason(self) -> str:
        assert self.error is not None
        return str(error_info(self.error).reason)


async def read(messages: AsyncIterable[Any]) -> Streamed:
    streamed = Streamed()
    try:
        async for message in messages:
            streamed.messages.append(message)
    except grpc.aio.AioRpcError as error:
        streamed.error = error
    return streamed


def question(**fields: Any) -> chat_pb2.ImageQuestion:
    return chat_pb2.ImageQuestion(**{"image": WORKSHEET, "prompt": "What is x?", **fields})


def request(**fields: Any) -> chat_pb2.ChatImageRequest:
    return chat_pb2.ChatImageRequest(question=question(**fields))


def complete_request(**fields: Any) -> chat_pb2.CompleteChatImageRequest:
    return chat_pb2.CompleteChatImageRequest(question=question(**fields))


def error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    found = _details(error, ErrorInfo)
    assert found is not None
    return found


def retry_info(error: grpc.aio.AioRpcError) -> RetryInfo | None:
    return _details(error, RetryInfo)


def bad_request(error: grpc.aio.AioRpcError) -> BadRequest | None:
    return _details(error, BadRequest)


def _details(error: grpc.aio.AioRpcError, kind: type[Any]) -> Any:
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            found = kind()
            detail.Unpack(found)
            return found
    return None


def engine_settings(**fields: Any) -> EngineSettings:
    """Settings of these fields, whatever the folder's `.env` says."""
    chosen: dict[str, Any] = {"_env_file": None, "openai_api_key": KEY, **fields}
    return EngineSettings(**chosen)


@asynccontextmanager
async def running_engine(upstream: Upstream, **settings: Any) -> AsyncIterator[RunningEngine]:
    """Runs an engine that asks `upstream`; `settings` are fields of EngineSettings."""
    chosen = engine_settings(openai_base_url=upstream.base_url, **settings)
    primary = model_options(chosen, chosen.openai_base_url, chosen.openai_model)
    model = OpenAIModel(primary, fallback_options(chosen))
    answers = Answers(keeping(chosen), end_log(chosen))
    async with aclosing(model), state(chosen) as kept:
        tutor = Tutor(model, answers, kept.sessions, deadlines(chosen), kept.shared)
        known: dict[str, Any] = {"credentials": listening_credentials(chosen), "tokens": chosen.service_tokens}
        engine = await start_engine(tutor, answers, "127.0.0.1", 0, **known)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{engine.port}") as channel:
                yield RunningEngine(engine, channel)
        finally:
            await engine.stop(0)
            await tutor.aclose()


class Two(NamedTuple):
    """The first model's server, and the fallback's."""

    primary: Upstream
    fallback: Upstream

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.primary.requests), len(self.fallback.requests)


def second(two: Two) -> dict[str, Any]:
    """The settings that name the fallback."""
    return {"openai_fallback_base_url": two.fallback.base_url, "openai_fallback_model": SECOND}


@asynccontextmanager
async def engine_with_fallback(two: Two, **settings: Any) -> AsyncIterator[RunningEngine]:
    async with running_engine(two.primary, **second(two), **settings) as engine:
        yield engine


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def nothing_is_left(engine: RunningEngine) -> None:
    """Waits until no answer is being written."""
    await until(lambda: not engine.answers.live)

"""Engines that share a real Redis, and readers of theirs that a test steps event by event."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from studyai.v1 import chat_pb2

from engine_grpc.redis_scripts import channel_name
from tests import upstream as up
from tests.engine.harness import error_info, question, running_engine
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from redis.asyncio import Redis

    from tests.engine.harness import RunningEngine
    from tests.upstream import Upstream

STUDENT = "anna"
KEY = "question-1"
WORDS = ["The", " answer", " is", " 6."]
TEXT = "".join(WORDS)
RECOVERY_SECONDS = 2


@asynccontextmanager
async def engines(upstream: Upstream, redis: Addressed, count: int = 2, **settings: Any) -> AsyncIterator[Any]:
    """As many engines, on one Redis."""
    async with AsyncExitStack() as stack:
        running = [running_engine(upstream, state_url=redis.url, **settings) for _ in range(count)]
        yield [await stack.enter_async_context(engine) for engine in running]


@asynccontextmanager
async def beats(store: Redis, answer_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Yields what waits until an engine says the next time that it reads an answer which another one writes."""
    said = f"read {answer_id} ".encode()
    async with store.pubsub() as channels:
        await channels.psubscribe(channel_name("*"))

        async def beat() -> None:
            heard: Any = None
            async with asyncio.timeout(5):
                while not heard or not heard["data"].startswith(said):
                    heard = await channels.get_message(ignore_subscribe_messages=True, timeout=None)

        yield beat


class Addressed(Protocol):
    """What has the address of a Redis."""

    url: str


class Live:
    """A reader of a stream."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._messages = aiter(call)
        self.started: chat_pb2.AnswerStarted | None = None
        self.finished: chat_pb2.AnswerFinished | None = None
        self.text = ""
        self.sequence = 0
        self.reason = ""

    @property
    def answer_id(self) -> str:
        assert self.started
        return self.started.answer_id

    async def begun(self) -> Live:
        """Reads the start."""
        async with asyncio.timeout(5):
            while self.started is None:
                await self._next()
        return self

    async def has(self, text: str) -> Live:
        """Reads until it has this text."""
        async with asyncio.timeout(5):
            while len(self.text) < len(text):
                await self._next()
        assert self.text == text
        return self

    async def end(self, within: float = 5) -> Live:
        """Reads to the end, whichever that is."""
        async with asyncio.timeout(within):
            try:
                while True:
                    await self._next()
            except StopAsyncIteration:
                return self
            except grpc.aio.AioRpcError as error:
                self.reason = error_info(error).reason
                return self

    async def _next(self) -> None:
        message = await anext(self._messages)
        self.sequence = message.sequence
        kind = message.WhichOneof("event")
        if kind == "started":
            self.started = message.started
        elif kind == "finished":
            self.finished = message.finished
        else:
            self.text += message.text_delta.text


def ask(engine: Any, key: str = KEY, **fields: Any) -> Live:
    """Asks an engine, or whatever a stub reaches."""
    asked = question(**{"student_id": STUDENT, **fields})
    return Live(getattr(engine, "stub", engine).ChatImage(chat_pb2.ChatImageRequest(question=asked, request_id=key)))


async def complete(engine: RunningEngine, key: str = KEY, **fields: Any) -> chat_pb2.CompleteChatImageResponse:
    asked = question(**{"student_id": STUDENT, **fields})
    return await engine.stub.CompleteChatImage(chat_pb2.CompleteChatImageRequest(question=asked, request_id=key))


def resume(engine: RunningEngine, answer_id: str, after: int = 0, student_id: str = STUDENT) -> Live:
    asks = chat_pb2.ResumeAnswerRequest(answer_id=answer_id, after_sequence=after, student_id=student_id)
    return Live(engine.stub.ResumeAnswer(asks))


async def stop(engine: RunningEngine, answer_id: str, student_id: str = STUDENT) -> None:
    await engine.stub.StopAnswer(chat_pb2.StopAnswerRequest(answer_id=answer_id, student_id=student_id))


async def refused(call: Any) -> str:
    """The code that a unary call fails with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error_info(error).reason)
    return ""


def gates(count: int = len(WORDS)) -> list[up.Signal]:
    return [up.Signal() for _ in range(count)]


def stepped(opening: list[up.Signal], words: list[str] = WORDS) -> Iterator[Any]:
    """The script of an answer whose words come one by one, as the test opens the gates."""
    yield from (up.stream_headers(), up.gated(opening, words), up.finish(), up.usage(30, 20), up.done())


async def started(engine: RunningEngine, opening: list[up.Signal]) -> Live:
    opening[0].set()
    return await ask(engine).has(WORDS[0])


async def goes_on(reader: Live, opening: list[up.Signal]) -> None:
    """Each delta comes as it is written."""
    for number, gate in enumerate(opening, start=2):
        began = time.monotonic()
        gate.set()
        await reader.has("".join(WORDS[:number]))
        assert time.monotonic() - began < 0.4  # less than anything here waits for Redis


async def recovered(engine: RunningEngine, reader: Live, text: str) -> Live:
    """Another engine reads the answer, within the time that recovery may take."""
    copies: list[Live] = []

    async def copied() -> bool:
        with suppress(grpc.aio.AioRpcError):
            copies.append(await resume(engine, reader.answer_id).has(text))
        return bool(copies)

    await until(copied, RECOVERY_SECONDS)
    return copies[0]

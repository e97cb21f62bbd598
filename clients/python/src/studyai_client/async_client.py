"""The client for asyncio. What it does is decided by `progress`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Self, Unpack

from studyai_client.errors import DeadlineExceededError, StudyAIError
from studyai_client.options import too_late
from studyai_client.progress import Complete, Progress, ended_early
from studyai_client.settings import Settings, checked
from studyai_client.transport import AsyncTransport, async_transport_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from studyai_client.events import Answer, Event
    from studyai_client.question import Picture
    from studyai_client.settings import AskOptions, ClientOptions, ReadOptions


class AsyncStudyAI:
    """Asks StudyAI from asyncio. To be used in one event loop.

        async with AsyncStudyAI("https://study.example", token=token) as studyai:
            async with studyai.ask("photo.jpg", "What is x?") as answer:
                async for event in answer:
                    if isinstance(event, Delta):
                        print(event.text, end="", flush=True)

    Args:
        url: Where the service is: `http://`, `https://`, `grpc://` or `grpcs://`.
        options: `token`, `student_id`, `timeout`, `tls`, `backoff`, `on_retry`: the fields of `Settings`.

    Raises:
        ValueError: The address is none, or the token.
    """

    def __init__(self, url: str = Settings.url, **options: Unpack[ClientOptions]) -> None:
        self._settings = Settings(url=url, **options)
        self._address = self._settings.address
        self._made: AsyncTransport | None = None
        self._closed = False

    def ask(self, picture: Picture | None, prompt: str, **options: Unpack[AskOptions]) -> AsyncAnswerStream:
        """Asks a question, and returns its answer as a stream of events; see `StudyAI.ask`.

        The picture is read here, at once: give bytes where even a local file would hold the loop up.
        """
        return self._stream(self._settings.asking(picture, prompt, options, streaming=True))

    async def complete(self, picture: Picture | None, prompt: str, **options: Unpack[AskOptions]) -> Answer:
        """Asks a question, and returns the whole answer; see `StudyAI.complete`."""
        async with self._stream(self._settings.asking(picture, prompt, options, streaming=False)) as answer:
            return await answer.read()

    def resume(self, answer_id: str, **options: Unpack[ReadOptions]) -> AsyncAnswerStream:
        """Returns the events of an answer that was begun before; see `StudyAI.resume`."""
        return self._stream(self._settings.resuming(answer_id, options))

    async def stop(self, answer_id: str, *, student_id: str | None = None) -> None:
        """Stops an answer; see `StudyAI.stop`."""
        await self._transport.stop(checked(answer_id), self._settings.student(student_id))

    async def aclose(self) -> None:
        """Closes every connection; streams that are open fail."""
        self._closed = True
        if self._made:
            await self._made.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def _transport(self) -> AsyncTransport:
        # Made when first used: a channel belongs to the loop that it is made in.
        if self._made is None:
            if self._closed:
                raise RuntimeError("The client has been closed.")
            self._made = async_transport_to(self._address, self._settings.token, self._settings.tls)
        return self._made

    def _stream(self, progress: Progress) -> AsyncAnswerStream:
        return AsyncAnswerStream(progress, self._transport, self._settings)


class AsyncAnswerStream:
    """The events of one answer, as they come; see `AnswerStream`.

    Use it in an `async with` block, or `aclose` it where you leave early: `break` alone does not close anything. A task
    that is cancelled while it waits for an event has closed the connection.
    """

    def __init__(self, progress: Progress, transport: AsyncTransport, settings: Settings) -> None:
        self._progress = progress
        self._transport = transport
        self._settings = settings
        self._events = self._run()

    @property
    def text(self) -> str:
        """All text so far."""
        return self._progress.text

    @property
    def answer_id(self) -> str | None:
        """The answer's, once it has begun: for `resume` and `stop`."""
        return self._progress.answer_id

    async def read(self) -> Answer:
        """Reads what is left, and returns the whole answer; see `AnswerStream.read`."""
        async for _ in self:
            pass
        return self._progress.answer

    async def aclose(self) -> None:
        """Leaves."""
        await self._events.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._progress.finished:
            return await anext(self._events)
        try:
            async with asyncio.timeout(self._progress.deadline.remaining()):
                return await anext(self._events)
        except TimeoutError:
            raise self._progress.tell(too_late()) from None
        except DeadlineExceededError as error:
            self._progress.tell(error)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self) -> AsyncGenerator[Event]:
        while not self._progress.finished:
            try:
                async with aclosing(self._attempt()) as events:
                    async for event in events:
                        yield event
            except StudyAIError as error:
                pause = self._progress.failed(error)
                self._settings.retrying(error, pause)
                await asyncio.sleep(pause)

    async def _attempt(self) -> AsyncGenerator[Event]:
        step = self._progress.next_step()
        if isinstance(step, Complete):
            for event in self._progress.take_whole(await self._transport.complete(step, self._progress.deadline)):
                yield event
            return
        async with aclosing(self._transport.stream(step, self._progress.deadline)) as events:
            async for numbered in events:
                if new := self._progress.take(numbered):
                    yield new
                if self._progress.finished:
                    return
        raise ended_early()

"""A client that threads and tasks share, that is left in the middle of an answer, and that was closed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

import studyai_client as sa
from studyai_client import AsyncStudyAI, StudyAI
from tests import upstream as up
from tests.clients.conftest import DELTAS, TEXT
from tests.end_to_end.conftest import WORKSHEET

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service

MANY = 101
"""One more than httpx2 has connections for, if it is not told otherwise."""


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_closing_the_iterator_closes_the_connection(service: Service, scheme: str) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
    port = service.gateway.port if scheme == "http" else service.engine.port
    with StudyAI(f"{scheme}://127.0.0.1:{port}") as studyai:
        with studyai.ask(WORKSHEET, "What is x?", key=f"left-{scheme}") as answer:
            assert [type(next(answer)) for _ in range(2)] == [sa.Started, sa.Delta]
        answer_id = answer.answer_id
        assert answer_id
        assert list(answer) == []
        # It goes on without a reader for a while; whoever comes back finds it.
        again = studyai.resume(answer_id)
        assert [type(next(again)) for _ in range(2)] == [sa.Started, sa.Delta]
        studyai.stop(answer_id)
        assert again.read().finish_reason == "stopped"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_cancelled_task_leaves_at_once(service: Service, scheme: str) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
    port = service.gateway.port if scheme == "http" else service.engine.port
    came = asyncio.Event()

    async def read() -> None:
        async with AsyncStudyAI(f"{scheme}://127.0.0.1:{port}") as studyai, studyai.ask(WORKSHEET, "x?") as answer:
            async for event in answer:
                if isinstance(event, sa.Delta):
                    came.set()

    task = asyncio.create_task(read())
    async with asyncio.timeout(5):
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_client_that_was_closed_says_so_on_all_wires(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:9"
    with StudyAI(url) as studyai:
        begun = studyai.ask(WORKSHEET, "x?")
    async with AsyncStudyAI(url) as asking:
        begun_async = asking.ask(WORKSHEET, "x?")
    async with AsyncStudyAI(url) as unused:
        pass
    for act in (begun.read, lambda: studyai.complete(WORKSHEET, "x?"), lambda: studyai.stop("a1")):
        with pytest.raises(RuntimeError, match="closed"):
            act()
    for wait in (begun_async.read, lambda: asking.complete(WORKSHEET, "x?"), lambda: unused.stop("a1")):
        with pytest.raises(RuntimeError, match="closed"):
            await wait()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_threads_share_a_client(service: Service, scheme: str) -> None:
    service.upstream.default(*up.answer(*DELTAS))
    port = service.gateway.port if scheme == "http" else service.engine.port
    with StudyAI(f"{scheme}://127.0.0.1:{port}") as studyai, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: studyai.ask(WORKSHEET, f"{n}?").read(), range(24)))
    assert {answer.text for answer in answers} == {TEXT}
    assert len({answer.answer_id for answer in answers}) == 24


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_as_many_answers_are_read_at_once_as_are_asked_for(service: Service, scheme: str) -> None:
    service.upstream.default(up.stream_headers(), up.chunk("Hi"), up.silence())
    port = service.gateway.port if scheme == "http" else service.engine.port
    async with AsyncExitStack() as stack:
        studyai = await stack.enter_async_context(AsyncStudyAI(f"{scheme}://127.0.0.1:{port}"))
        asked = [await stack.enter_async_context(studyai.ask(WORKSHEET, f"{n}?")) for n in range(MANY)]
        async with asyncio.timeout(30):
            begun = await asyncio.gather(*map(anext, asked))
            for event in begun:
                assert isinstance(event, sa.Started)
                await studyai.stop(event.answer_id)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_tasks_share_a_client_and_one_that_is_cancelled_leaves_the_others_alone(
    service: Service, scheme: str
) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
    service.upstream.default(*up.answer(*DELTAS))
    port = service.gateway.port if scheme == "http" else service.engine.port
    async with AsyncStudyAI(f"{scheme}://127.0.0.1:{port}") as studyai:
        silent = studyai.ask(WORKSHEET, "x?")
        assert [type(await anext(silent)) for _ in range(2)] == [sa.Started, sa.Delta]
        waiting = asyncio.create_task(silent.read())
        answers = await asyncio.gather(*(studyai.ask(WORKSHEET, f"{n}?").read() for n in range(24)))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await studyai.ask(WORKSHEET, "last?").read()).text == TEXT
    assert {answer.text for answer in answers} == {TEXT}

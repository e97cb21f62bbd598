"""The memory that uploads may take, and who gets some of it when there is little."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from sse_gateway import uploads
from sse_gateway.errors import ErrorCode, GatewayError
from sse_gateway.uploads import Upload, UploadMemory
from tests.gateway.conftest import running_gateway
from tests.gateway.fake_engine import fake_engine
from tests.gateway.wire import STREAM, encoded, question
from tests.waiting import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gateway.conftest import RunningGateway


_UNTIL_THEY_WAIT = 5
"""Turns after which every task of these tests waits."""


@contextmanager
def begun(memory: UploadMemory, expected: int) -> Iterator[Upload]:
    """An upload, released at the end."""
    upload = Upload(memory, expected)
    try:
        yield upload
    finally:
        upload.release()


async def test_announced_bytes_take_no_room() -> None:
    memory = UploadMemory(10)
    with begun(memory, 10), begun(memory, 10) as second:
        await second.grow(10)
        assert memory.held == 10


async def test_upload_over_the_limit_waits_until_another_lets_go() -> None:
    memory = UploadMemory(10)
    with begun(memory, 8) as first, begun(memory, 12) as exception, begun(memory, 8) as third:
        await first.grow(8)
        await exception.grow(12)
        waiting = asyncio.ensure_future(third.grow(8))
        await turns(_UNTIL_THEY_WAIT)
        assert not waiting.done()
        exception.release()
        await turns(_UNTIL_THEY_WAIT)
        assert waiting.done()


async def test_uploads_that_are_all_half_there_do_not_wait_for_each_other_for_ever() -> None:
    memory = UploadMemory(10)

    async def upload() -> None:
        with begun(memory, 10) as mine:
            for _ in range(10):
                await mine.grow(1)
                await turns()
                assert memory.held <= 10 + 10

    async with asyncio.timeout(5):
        await asyncio.gather(*(upload() for _ in range(50)))
    assert memory.held == 0


async def test_who_needs_least_goes_first() -> None:
    memory = UploadMemory(10)
    done: list[str] = []

    async def finish(name: str, size: int) -> None:
        with begun(memory, size) as mine:
            await mine.grow(size)
            done.append(name)

    with begun(memory, 20) as exception:
        await exception.grow(20)
        tasks = [asyncio.ensure_future(finish(name, size)) for name, size in (("large", 9), ("small", 3))]
        await turns(_UNTIL_THEY_WAIT)
    await asyncio.gather(*tasks)
    assert done == ["small", "large"]


async def test_upload_that_waited_too_long_is_told_overloaded_and_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "_WAIT_SECONDS", 0.01)
    memory = UploadMemory(10)
    with begun(memory, 10) as first, begun(memory, 10) as exception:
        await first.grow(10)
        await exception.grow(1)
        with begun(memory, 10) as late, pytest.raises(GatewayError) as told:
            await late.grow(1)
        assert (told.value.code, late.held, memory.held) == (ErrorCode.OVERLOADED, 0, 11)


async def test_client_that_leaves_while_it_waits_hands_its_turn_on() -> None:
    memory = UploadMemory(10)
    with begun(memory, 11) as exception, begun(memory, 5) as gone, begun(memory, 6) as third:
        await exception.grow(11)
        leaving = asyncio.ensure_future(gone.grow(5))
        waiting = asyncio.ensure_future(third.grow(6))
        await turns(_UNTIL_THEY_WAIT)
        leaving.cancel()
        exception.release()
        await turns(_UNTIL_THEY_WAIT)
        assert waiting.done()


async def test_uploads_larger_than_the_memory_are_all_answered() -> None:
    body = encoded(question())
    async with fake_engine() as engine, running_gateway(engine.url, upload_memory_bytes=len(body) // 2) as gateway:

        async def ask() -> int:
            async with gateway.post(STREAM, body) as client:
                await client.read_head()
                await client.read_body()
                return client.status

        asking = [asyncio.ensure_future(ask()) for _ in range(20)]
        for _ in asking:
            call = await engine.next_call()
            await call.start()
            await call.finish()
        assert await asyncio.gather(*asking) == [200] * 20
        assert memory_of(gateway) == 0


def memory_of(gateway: RunningGateway) -> int:
    held: int = gateway.server.config.loaded_app.state.parts.uploads.held
    return held

"""The Redis that compose starts, when it is full: old pictures make room, answers stay."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from tests import upstream as up
from tests.deploy.test_files import COMPOSE
from tests.engine.harness import read, request
from tests.engine.pictures import png_chunk
from tests.engine.shared import engines
from tests.redis_server import running_redis
from tests.waiting import until

if TYPE_CHECKING:
    from tests.engine.harness import RunningEngine
    from tests.upstream import Upstream

POLICY = COMPOSE["services"]["redis"]["command"][-2:]
SMALL = ["--maxmemory", "12mb", *POLICY, "--maxmemory-samples", "64"]
"""All keys are looked at, not five of them by chance."""
OLD, NEW = 8, 6
OLD_SECONDS = 2
"""Redis knows seconds apart."""


def picture() -> bytes:
    """A PNG of 1 MB, another each time."""
    head = (1000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    rows = zlib.compress(b"".join(b"\0" + os.urandom(1000) for _ in range(1000)), 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND")


async def test_full_redis_forgets_old_pictures_and_no_answer(upstream: Upstream) -> None:
    upstream.default(up.answer("x = 6"))
    with running_redis(options=SMALL) as server:
        async with engines(upstream, server) as (first, second), Redis.from_url(server.url) as store:
            await ask_with_pictures(first, OLD, "old")
            (old, *_) = [key async for key in store.scan_iter("*picture*")]
            await until(lambda: is_old(store, old))
            asked = request()
            asked.request_id = "kept"
            answered = await read(first.stub.ChatImage(asked))
            await ask_with_pictures(first, NEW, "new")
            assert (await store.info("stats"))["evicted_keys"] > 0
            joined = await read(second.stub.ChatImage(asked))
            assert joined.messages[0].started.answer_id == answered.messages[0].started.answer_id
            assert len(upstream.requests) == OLD + 1 + NEW


async def ask_with_pictures(engine: RunningEngine, count: int, name: str) -> None:
    for number in range(count):
        await engine.stream(image=picture(), session_id=f"{name}-{number}")


async def is_old(store: Redis, key: bytes) -> bool:
    return int(await store.object("idletime", key)) >= OLD_SECONDS

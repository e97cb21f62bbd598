"""Random cuts: clients that hang up and gateways that are killed, and not one delta lost, doubled or reordered.

Two engines that share a Redis, two gateways in front of both, all real processes; answers of random length and pace.
`make test` runs some, `make soak` a thousand cuts; SOAK_SEED chooses others.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.processes import running_engine_process, running_gateway_process
from tests.redis_server import running_redis
from tests.soak.reading import Answers, Reader, Tally
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.processes import Process

pytestmark = pytest.mark.timeout(600)

CUTS = int(os.environ.get("SOAK_CUTS", "200"))
SEED = int(os.environ.get("SOAK_SEED", "7"))
CLIENTS = 12
GATEWAY_KILL_SECONDS = 0.7
PACES = [0, 0.002, 0.01, 0.03]


async def read_until_all_cuts_are_made(
    chance: random.Random, gateways: list[str], answers: Answers, tally: Tally
) -> None:
    async with aiohttp.ClientSession() as http:
        while tally.cuts_left > 0:
            await Reader(chance, http, gateways, answers, tally).read()


async def kill_gateways(
    engines: list[Process], gateways: list[Process], stack: ExitStack, enough: asyncio.Event
) -> int:
    """Kills one gateway after the other with SIGKILL, and starts it anew where it was; returns how many."""
    for kills in itertools.count():
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), GATEWAY_KILL_SECONDS)
            break
        place = kills % len(gateways)
        await asyncio.to_thread(gateways[place].stop, signal.SIGKILL)
        again = running_gateway_process(*engines, port=gateways[place].port)
        gateways[place] = await asyncio.to_thread(stack.enter_context, again)
    return kills


async def test_no_delta_is_lost_doubled_or_reordered_and_no_model_asked_twice() -> None:
    chance, tally, answers = random.Random(SEED), Tally(CUTS), Answers(SEED, PACES)
    async with Upstream() as upstream:
        upstream.default(answers.write)
        with ExitStack() as stack:
            redis = stack.enter_context(running_redis())
            engines, gateways = await asyncio.to_thread(_start, stack, upstream.base_url, redis.url)
            urls = [f"http://127.0.0.1:{gateway.port}" for gateway in gateways]
            enough = asyncio.Event()
            killing = asyncio.create_task(kill_gateways(engines, gateways, stack, enough))
            try:
                async with asyncio.TaskGroup() as clients:
                    for _ in range(CLIENTS):
                        own = random.Random(chance.random())
                        clients.create_task(read_until_all_cuts_are_made(own, urls, answers, tally))
            finally:
                enough.set()
                kills = await killing
                await asyncio.to_thread(stack.close)
    latencies = sorted(tally.resumes)
    p99 = latencies[int(len(latencies) * 0.99)]
    print(f"{CUTS} cuts, {kills} gateways killed, {tally.answers} answers, resumes' p99 {p99:.3f} s")
    assert len(upstream.requests) == tally.answers
    assert kills > 0
    assert p99 < 1


def _start(stack: ExitStack, base_url: str, redis_url: str) -> tuple[list[Process], list[Process]]:
    engines = [stack.enter_context(running_engine_process(base_url, STATE_URL=redis_url)) for _ in range(2)]
    gateways = [stack.enter_context(running_gateway_process(*engines)) for _ in range(2)]
    return engines, gateways

"""A rolling restart of everything under live streams: each process ends in peace, and each answer is whole in the end.

Two engines that share a Redis, two gateways in front of both; one after the other gets SIGTERM and is started anew in
its place, while clients with keys read answers, some of them longer than draining lasts. They come back, or ask again,
as the README says. `make test` restarts a few, `make soak` twenty under two hundred streams.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.processes import running_engine_process, running_gateway_process
from tests.redis_server import running_redis
from tests.soak.reading import Answers, Reader, Tally
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.processes import Process

pytestmark = pytest.mark.timeout(1800)

RESTARTS = int(os.environ.get("SOAK_RESTARTS", "4"))
STREAMS = int(os.environ.get("SOAK_RESTART_STREAMS", "40"))
SEED = int(os.environ.get("SOAK_SEED", "7"))
DRAIN_SECONDS = 2
PACES = [0.01, 0.03, 0.1]
ANEW = frozenset({"DRAINING", "ENGINE_UNAVAILABLE"})


class Cluster:
    """Two of each, each of which can be restarted."""

    def __init__(self, stack: ExitStack, base_url: str, redis_url: str) -> None:
        self._stack = stack
        self._base_url = base_url
        self._settings = {"STATE_URL": redis_url, "DRAIN_SECONDS": str(DRAIN_SECONDS)}
        self.engines = [self._engine() for _ in range(2)]
        self.gateways = [self._gateway() for _ in range(2)]

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{gateway.port}" for gateway in self.gateways]

    def restart(self, number: int) -> int:
        """Restarts one, in turn; returns the exit status."""
        place = number // 2 % 2
        if number % 2 == 0:
            status = self.engines[place].stop(signal.SIGTERM)
            self.engines[place] = self._engine(self.engines[place].port)
        else:
            status = self.gateways[place].stop(signal.SIGTERM)
            self.gateways[place] = self._gateway(self.gateways[place].port)
        return status

    def _engine(self, port: int = 0) -> Process:
        return self._stack.enter_context(running_engine_process(self._base_url, port, **self._settings))

    def _gateway(self, port: int = 0) -> Process:
        return self._stack.enter_context(running_gateway_process(*self.engines, port=port, **self._settings))


async def read_until(
    enough: asyncio.Event, chance: random.Random, urls: list[str], answers: Answers, tally: Tally
) -> None:
    async with aiohttp.ClientSession() as http:
        while not enough.is_set():
            await Reader(chance, http, urls, answers, tally, ANEW).read()


async def test_rolling_restart_loses_no_answer_and_every_process_ends_in_peace() -> None:
    chance, tally, answers = random.Random(SEED), Tally(), Answers(SEED, PACES)
    statuses, took = [], []
    async with Upstream() as upstream:
        upstream.default(answers.write)
        with ExitStack() as stack:
            redis = stack.enter_context(running_redis())
            cluster = await asyncio.to_thread(Cluster, stack, upstream.base_url, redis.url)
            enough = asyncio.Event()
            async with asyncio.TaskGroup() as clients:
                for _ in range(STREAMS):
                    own = random.Random(chance.random())
                    clients.create_task(read_until(enough, own, cluster.urls, answers, tally))
                for number in range(RESTARTS):
                    since = time.monotonic()
                    statuses.append(await asyncio.to_thread(cluster.restart, number))
                    took.append(time.monotonic() - since)
                enough.set()
            await asyncio.to_thread(stack.close)
    print(
        f"{RESTARTS} restarts in {sum(took):.0f} s under {STREAMS} streams: {tally.answers} answers, told {tally.told}"
    )
    assert statuses == [0] * RESTARTS
    assert tally.answers >= STREAMS

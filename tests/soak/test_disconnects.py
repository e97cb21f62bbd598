"""Clients that leave, by the thousand: the model is stopped in a moment, each time.

`make test` runs some, `make soak` five thousand.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import ExitStack

import pytest

from tests.processes import running_engine_process, running_gateway_process
from tests.soak.asking import ROUTES, STREAM, Caller, request
from tests.soak.model import running_model

pytestmark = pytest.mark.timeout(1200)

DISCONNECTS = int(os.environ.get("SOAK_DISCONNECTS", "200"))
SEED = int(os.environ.get("SOAK_SEED", "7"))
AT_ONCE = 8
PHASES = ["no headers", "no token", "no end"]
P50_SECONDS, P99_SECONDS = 0.05, 0.25


async def test_model_is_stopped_within_a_quarter_of_a_second_of_the_clients_leaving() -> None:
    async with running_model() as model:
        with ExitStack() as stack:
            engine = await asyncio.to_thread(stack.enter_context, running_engine_process(model.base_url))
            gateway = await asyncio.to_thread(stack.enter_context, running_gateway_process(engine, DRAIN_SECONDS="0"))
            took: list[float] = []

            async def leave(chance: random.Random, count: int) -> None:
                for _ in range(count):
                    route, prompt = chance.choice(ROUTES), f"{chance.choice(PHASES)}: {chance.random()}"
                    arrived, left = model.expect(prompt)
                    caller = await Caller.connect(gateway.port)
                    caller.writer.write(request(prompt, route))
                    async with asyncio.timeout(10):
                        await arrived
                        if route == STREAM:
                            await caller.reader.readuntil(b"\n\n")
                        since = asyncio.get_running_loop().time()
                        caller.leave(chance)
                        took.append(await left - since)

            chance = random.Random(SEED)
            await asyncio.gather(
                *(leave(random.Random(chance.random()), DISCONNECTS // AT_ONCE) for _ in range(AT_ONCE))
            )
            await asyncio.to_thread(stack.close)
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(f"{len(took)} disconnects: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, max {took[-1] * 1000:.1f} ms")
    assert p50 < P50_SECONDS
    assert p99 < P99_SECONDS

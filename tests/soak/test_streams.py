"""Short streams by the hundred thousand, nearly a third of them left before their end: nothing piles up.

`make test` runs a few, `make soak` all of them, and then the memory counts too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.service import count, eventually
from tests.processes import running_engine_process, running_gateway_process
from tests.soak.asking import ROUTES, Caller, ask, request
from tests.soak.model import TEXT, running_model
from tests.waiting import until

if TYPE_CHECKING:
    from tests.processes import Process

pytestmark = pytest.mark.timeout(3600)

STREAMS = int(os.environ.get("SOAK_STREAMS", "1000"))
SEED = int(os.environ.get("SOAK_SEED", "7"))
WARM_UP = min(20_000, STREAMS // 4)
AT_ONCE = 32
SLOTS = 64
ABORTED = 0.3
SETTLE_SECONDS = 10.0
KEPT = {"ANSWER_TTL_SECONDS": "5", "MAX_CONCURRENT_ANSWERS": str(SLOTS)}
GROWTH_BYTES = 2**20
"""For each 10,000 streams."""
FEW_STREAMS_BYTES = 32 * 2**20
"""For so few that what a process allocates once is all that shows."""


async def one_stream(chance: random.Random, port: int) -> None:
    """Asks, and leaves early or checks the answer."""
    route = chance.choice(ROUTES)
    if chance.random() >= ABORTED:
        reply = await ask(port, request("short:", route))
        assert (reply.status, reply.text) == (200, TEXT), reply
        return
    asked = request(chance.choice(["short:", "no headers:", "no token:", "no end:"]), route)
    caller = await Caller.connect(port)
    # Anywhere, mostly when all is sent.
    caller.writer.write(asked[: chance.choice([chance.randrange(len(asked)), len(asked), len(asked)])])
    await asyncio.sleep(chance.choice([0, 0, 0.005, 0.02]))
    caller.leave(chance)


async def many_streams(chance: random.Random, port: int, number: int) -> None:
    left = itertools.count(1)

    async def some(own: random.Random) -> None:
        while next(left) <= number:
            await one_stream(own, port)

    async with asyncio.TaskGroup() as clients:
        for _ in range(AT_ONCE):
            clients.create_task(some(random.Random(chance.random())))


def resident_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


async def settle(processes: list[Process], rest: list[dict[str, int]]) -> None:
    """Waits until nothing is open or running that was not at rest."""
    left: list[dict[str, int]] = []

    async def at_rest() -> bool:
        found = [await count(process) for process in processes]
        left[:] = [
            {name: now[name] for name in then if now[name] > then[name]} for now, then in zip(found, rest, strict=True)
        ]
        return not any(left)

    await until(at_rest, SETTLE_SECONDS, lambda: left)


async def test_streams_leave_no_task_no_socket_no_slot_and_no_memory_behind() -> None:
    chance = random.Random(SEED)
    async with running_model() as model:
        with ExitStack() as stack:
            engine = await asyncio.to_thread(stack.enter_context, running_engine_process(model.base_url, **KEPT))
            gateway = await asyncio.to_thread(stack.enter_context, running_gateway_process(engine, DRAIN_SECONDS="0"))
            processes = [engine, gateway]
            await ask(gateway.port, request("short:"))  # What libuv opens once and keeps is open now.
            model.hang_up()
            rest = [await count(process) for process in processes]
            await many_streams(chance, gateway.port, WARM_UP)
            before = [resident_bytes(process) for process in processes]
            await many_streams(chance, gateway.port, STREAMS - WARM_UP)
            growth = [resident_bytes(process) - then for process, then in zip(processes, before, strict=True)]
            await eventually(lambda: not model.busy)
            model.hang_up()
            await settle(processes, rest)
            replies = await asyncio.gather(*(ask(gateway.port, request("short:")) for _ in range(SLOTS)))
            await asyncio.to_thread(stack.close)
    figures = [f"{name} {bytes_ / 2**20:+.2f} MiB" for name, bytes_ in zip(("engine", "gateway"), growth, strict=True)]
    print(f"{STREAMS} streams, {model.asked} asked the model; memory after the first {WARM_UP}: {', '.join(figures)}")
    assert [reply.text for reply in replies] == [TEXT] * SLOTS
    allowed = max(FEW_STREAMS_BYTES if STREAMS < 50_000 else 0, GROWTH_BYTES * (STREAMS - WARM_UP) // 10_000)
    assert max(growth) <= allowed

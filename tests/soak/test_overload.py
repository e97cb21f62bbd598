"""Four times as many students as the engine takes: the others are told at once, and those let in notice nothing.

The figures are of this machine, clients and model's server included. `make test` only checks that every refusal is one
to act on and that nobody let in is dropped; `make soak` also holds the figures to what is promised.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.processes import running_engine_process, running_gateway_process
from tests.soak.asking import ask, request
from tests.upstream import Upstream, events

if TYPE_CHECKING:
    from tests.soak.asking import Reply
    from tests.upstream import Connection

pytestmark = pytest.mark.timeout(300)

SLOTS = int(os.environ.get("SOAK_SLOTS", "20"))
SECONDS = float(os.environ.get("SOAK_OVERLOAD_SECONDS", "2"))
STRICT = "SOAK_SLOTS" in os.environ
DELTAS, PACE_SECONDS = 20, 0.05
REFUSED_SECONDS = 0.05
GOODPUT = 0.9
SLOWER = 1.5
"""How much longer an admitted answer may take at most (its p99), beside so many that are refused."""


@dataclass
class Load:
    """What so many clients got in the time."""

    answered: list[float] = field(default_factory=list)
    """How long each whole answer took."""
    refused: list[float] = field(default_factory=list)
    others: list[Reply] = field(default_factory=list)

    def note(self, reply: Reply, took: float) -> None:
        if reply.text == "." * DELTAS:
            self.answered.append(took)
        elif reply.code == "OVERLOADED" and reply.status == 503 and reply.retry_after:
            self.refused.append(took)
        else:
            self.others.append(reply)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


async def load(port: int, clients: int) -> Load:
    """So many clients ask again and again for a while; one that is refused waits for as long as it is told."""
    got, end = Load(), time.monotonic() + SECONDS

    async def one(number: int) -> None:
        # Students do not come all at once.
        await asyncio.sleep(number / clients)
        while time.monotonic() < end:
            since = time.monotonic()
            reply = await ask(port, request("What is x?"))
            got.note(reply, time.monotonic() - since)
            await asyncio.sleep(reply.retry_after)

    async with asyncio.TaskGroup() as asking:
        for number in range(clients):
            asking.create_task(one(number))
    return got


async def test_overload_is_refused_at_once_and_costs_those_let_in_nothing() -> None:
    async with Upstream() as upstream:
        upstream.default(paced)
        with ExitStack() as stack:
            slots = {"MAX_CONCURRENT_ANSWERS": str(SLOTS)}
            engine = await asyncio.to_thread(stack.enter_context, running_engine_process(upstream.base_url, **slots))
            gateway = await asyncio.to_thread(stack.enter_context, running_gateway_process(engine, DRAIN_SECONDS="0"))
            fitting = await load(gateway.port, SLOTS)
            over = await load(gateway.port, 4 * SLOTS)
            await asyncio.to_thread(stack.close)
    goodput = len(over.answered) / len(fitting.answered)
    slower = percentile(over.answered, 0.99) / percentile(fitting.answered, 0.99)
    refused = percentile(over.refused, 0.99)
    print(
        f"{SLOTS} slots, {4 * SLOTS} clients: {len(over.refused)} refused, "
        f"p50 {percentile(over.refused, 0.5) * 1000:.1f} ms, "
        f"p99 {refused * 1000:.1f} ms; goodput {goodput:.0%}; answers' p99 {slower:.2f} times as long"
    )
    assert (fitting.refused, fitting.others, over.others) == ([], [], [])
    assert len(over.refused) > SLOTS
    if STRICT:
        assert refused < REFUSED_SECONDS
        assert goodput >= GOODPUT
        assert slower < SLOWER


async def paced(connection: Connection) -> None:
    """The upstream's step: a second of text."""
    await connection.start_body(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n", chunked=True
    )
    for _ in range(DELTAS):
        await connection.write_body(events.content_event("."))
        await asyncio.sleep(PACE_SECONDS)
    await connection.write_body(events.finish_event() + events.usage_event(1, DELTAS) + events.DONE)

"""Redis dies, stands still or is slow while answers run and are resumed: they go on, and what cannot be had says so."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests import upstream as up
from tests.faults.client import FALLBACK
from tests.faults.invariants import invariants, rested
from tests.faults.network import running_link
from tests.faults.service import PATIENT, Service
from tests.redis_server import running_redis
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.client import Told
    from tests.faults.invariants import Case
    from tests.faults.network import Link
    from tests.redis_server import RedisServer

    Change = Callable[["Shared"], None]
    Fault = tuple[Change, Change]

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = ["Hi", " there", ", Anna", "."]
TRUTH = "".join(WORDS)
AT_ONCE_SECONDS = 0.5
REFUSALS = {"ENGINE_UNAVAILABLE", "ANSWER_NOT_FOUND"}
RECOVERED_SECONDS = 10
SLOW_SECONDS = 0.3


class Shared:
    """Two services that share a Redis, and the way to it."""

    def __init__(self, here: Service, there: Service, redis: RedisServer, link: Link) -> None:
        self.here = here
        self.there = there
        self.redis = redis
        self.link = link


def delay(shared: Shared, seconds: float) -> None:
    shared.link.delay = seconds


FAULTS: dict[str, Fault] = {
    "killed, and back empty": (lambda shared: shared.redis.kill(), lambda shared: shared.redis.start()),
    "stopped": (lambda shared: shared.redis.pause(), lambda shared: shared.redis.go_on()),
    "slow": (lambda shared: delay(shared, SLOW_SECONDS), lambda shared: delay(shared, 0)),
    "unreachable": (lambda shared: shared.link.cut(close=False), lambda shared: shared.link.heal()),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Shared]:
    with ExitStack() as stack:
        async with running_link() as link:
            redis = stack.enter_context(running_redis())
            link.to = redis.port
            settings = {**PATIENT, "STATE_URL": redis.url.replace(str(redis.port), str(link.port))}
            upstream = stack.enter_context(up.running_upstream())
            starting = [asyncio.to_thread(Service, upstream, stack, settings, None) for _ in range(2)]
            here, there = await asyncio.gather(*starting)
            try:
                for service in (here, there):
                    service.pool_port = link.port
                    await rested(service)
                yield Shared(here, there, redis, link)
            finally:
                await asyncio.to_thread(stack.close)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_answers_go_on_and_resumes_are_whole_or_refused(shared: Shared, fault: Fault) -> None:
    async with invariants(shared.here, TRUTH) as here, invariants(shared.there, TRUTH) as there:
        await answer_and_resume(here, there, shared, fault)


async def answer_and_resume(here: Case, there: Case, shared: Shared, fault: Fault) -> None:
    """One answer, read from its start, resumed on its own engine and on the other, with a fault in the middle."""
    begin, end = fault
    gates = [up.Signal() for _ in WORDS]
    shared.here.upstream.default(up.stream_headers(), up.gated(gates, WORDS), up.finish(), up.done())
    client = await here.client(key=str(uuid.uuid4())).ask()
    gates[0].set()
    await client.read_text(WORDS[0])
    answer_id = client.told.events[0]["answer_id"]
    begin(shared)
    try:
        since = time.monotonic()
        gates[1].set()
        await client.read_more("".join(WORDS[:2]))
        assert time.monotonic() - since < AT_ONCE_SECONDS
        resumed = await here.client(answers=0).resume(answer_id)
        await resumed.read_text("".join(WORDS[:2]))
        elsewhere = await there.client(answers=0).resume(answer_id)
        gates[2].set()
        await client.read_more("".join(WORDS[:3]))
    finally:
        end(shared)
    gates[3].set()
    for told in (await client.read_rest(), await resumed.read_rest()):
        assert (told.code, told.text, told.whole) == ("", TRUTH, True)
    told = await elsewhere.read_to_end()
    assert told.whole
    assert told.code in REFUSALS | {""}
    await check_resumed_whole(there, answer_id)
    assert len(shared.here.upstream.requests) == 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_new_questions_are_answered_meanwhile(shared: Shared, fault: Fault) -> None:
    begin, end = fault
    async with invariants(shared.here, "Hello there.") as here:
        begin(shared)
        try:
            clients = [here.client(), here.client(FALLBACK), here.client(key=str(uuid.uuid4()))]
            told = [await (await client.ask()).read_to_end() for client in clients]
        finally:
            end(shared)
    assert [each.code for each in told] == [""] * 3


async def check_resumed_whole(there: Case, answer_id: str) -> None:
    """Sooner or later the other engine has it."""
    told: list[Told] = []

    async def taken() -> bool:
        client = await there.client(answers=0).resume(answer_id)
        told.append(await client.read_to_end())
        return told[-1].code not in REFUSALS

    await until(taken, RECOVERED_SECONDS)
    assert (told[-1].code, told[-1].text) == ("", TRUTH)

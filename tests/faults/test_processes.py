"""A service that is killed or held up: its callers are told or see the cut, and the model is let go."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.faults.client import FALLBACK, STREAM
from tests.faults.invariants import CLOSED_WITHIN_SECONDS, invariants, rested
from tests.faults.phases import PHASES, ROUTES, TRUTH
from tests.faults.service import PATIENT, frozen, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.client import Client, Told
    from tests.faults.invariants import Case
    from tests.faults.phases import Phase
    from tests.faults.service import Service

WAITING = ["before the first event", "before the first token", "mid-stream"]
"""The phases in which somebody waits for the services."""
PAUSE_SECONDS = 1.5
TOLD_SECONDS = 1.0


@pytest.fixture(scope="module")
def mortal_service() -> Iterator[Service]:
    with running_service(**PATIENT) as service:
        yield service


@pytest.fixture
async def service(mortal_service: Service) -> Service:
    """A service that may be killed, alive and at rest."""
    await asyncio.to_thread(mortal_service.revive)
    return await rested(mortal_service)


@pytest.mark.parametrize("phase", [PHASES[name] for name in WAITING], ids=WAITING)
async def test_killed_engine_is_told_as_unavailable_at_once(service: Service, phase: Phase) -> None:
    async with invariants(service, TRUTH) as case:
        async with phase(case, STREAM) as streaming, phase(case, FALLBACK) as whole:
            # Whatever it had logged is gone with it.
            case.lines = {client.request_id: (1, 0) for client in case.clients}
            await asyncio.to_thread(service.engine.stop, signal.SIGKILL)
            since = time.monotonic()
            told = await asyncio.gather(rest(streaming), rest(whole))
            assert time.monotonic() - since < TOLD_SECONDS
        await check_model_let_go(case, since)
        await asyncio.to_thread(service.revive)
    assert [each.code for each in told] == ["ENGINE_UNAVAILABLE"] * 2
    assert [each.ending["retryable"] for each in told if each.ending] == [True] * 2
    assert [each.status for each in told] == [200 if told[0].events else 503, 503]


@pytest.mark.parametrize("phase", [PHASES[name] for name in WAITING], ids=WAITING)
async def test_killed_gateway_is_a_cut_that_stops_the_model_at_once(service: Service, phase: Phase) -> None:
    async with invariants(service, TRUTH) as case:
        async with phase(case, STREAM) as streaming, phase(case, FALLBACK) as whole:
            case.lines = {asking: (0, answers) for asking, (_, answers) in case.lines.items()}
            await asyncio.to_thread(service.gateway.stop, signal.SIGKILL)
            told = await asyncio.gather(rest(streaming), rest(whole))
        await check_model_let_go(case, time.monotonic())
        await asyncio.to_thread(service.revive)
    assert [(each.whole, each.ending) for each in told] == [(False, None)] * 2


@pytest.mark.parametrize("which", ["engine", "gateway"])
async def test_stopped_process_tells_everyone_to_try_again_and_ends_in_peace(service: Service, which: str) -> None:
    names = ["before the first token", "mid-stream", *(["mid-upload"] if which == "gateway" else [])]
    async with invariants(service, TRUTH) as case, AsyncExitStack() as placed:
        for name, route in itertools.product(names, ROUTES.values()):
            await placed.enter_async_context(PHASES[name](case, route))
        # Whatever it had logged is gone with it.
        for asking, (requests, answers) in case.lines.items():
            case.lines[asking] = (0, answers) if which == "gateway" else (requests, 0)
        status = await asyncio.to_thread(getattr(service, which).stop, signal.SIGTERM)
        told = await asyncio.gather(*(rest(client) for client in case.clients))
        await asyncio.to_thread(service.revive)
    assert status == 0
    assert [each.code for each in told] == ["DRAINING"] * len(told)
    assert [each.ending["retryable"] for each in told if each.ending] == [True] * len(told)


@pytest.mark.parametrize("which", ["engine", "gateway"])
async def test_pause_of_a_process_is_a_pause_of_the_answer(service: Service, which: str) -> None:
    async with invariants(service, TRUTH) as case:
        gate = up.Signal()
        service.upstream.default(
            up.stream_headers(), up.chunk("Hi"), up.gate(gate), up.chunk(" there"), up.finish(), up.done()
        )
        streaming, whole = case.client(STREAM), case.client(FALLBACK)
        await asyncio.gather(streaming.ask(), whole.ask())
        await streaming.read_text("Hi")
        await service.upstream.request(1)
        with frozen(getattr(service, which)):
            gate.set()
            # As long as a machine may stand still, and shorter than keepalive's patience.
            await asyncio.sleep(PAUSE_SECONDS)
        told = await asyncio.gather(streaming.read_rest(), whole.read_to_end())
    assert [each.code for each in told] == ["", ""]
    assert [each.whole for each in told] == [True, True]


async def rest(client: Client) -> Told:
    """What a client was told that may have read some of it already."""
    return await client.read_to_end(head=not client.told.status)


async def check_model_let_go(case: Case, since: float) -> None:
    """Each connection to the model was closed in time."""
    for asked in case.service.upstream.requests:
        await asked.closed.within()
        assert asked.closed_at is not None
        assert asked.closed_at - since < CLOSED_WITHIN_SECONDS

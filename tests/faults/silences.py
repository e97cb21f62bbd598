"""Clients that vanish, an engine that is cut off or frozen: the scenarios of those who fall silent without a word.

Finding out takes the time-outs that a real network needs, so they run all at once, each with a service of its own;
see `tests.faults.test_silences`.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from tests.faults.invariants import invariants, rested
from tests.faults.network import plugged_cable, running_link
from tests.faults.phases import PHASES, ROUTES, TRUTH, mid_stream
from tests.faults.service import PATIENT, descriptors, eventually, frozen, ready, records, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractAsyncContextManager

    from tests.faults.invariants import Case
    from tests.faults.network import Link
    from tests.faults.service import Service

    Silence = Callable[[Service], AbstractAsyncContextManager[None]]

VANISHED_SECONDS = 45
TOLD_SECONDS = 20
READY_SECONDS = 5


@asynccontextmanager
async def service_of_its_own(link: Link | None = None, **settings: str) -> AsyncIterator[Service]:
    """A service that nothing else uses; it starts and ends in a thread, since others wait in this loop."""
    with ExitStack() as stack:
        try:
            starting = running_service(link, **PATIENT, **settings)
            yield await rested(await asyncio.to_thread(stack.enter_context, starting))
        finally:
            await asyncio.to_thread(stack.close)


async def clients_vanish() -> None:
    """In every phase and on both routes, at one moment."""
    with plugged_cable() as cable:
        # A slot for each that waits for its answer.
        async with (
            service_of_its_own(HOST="0.0.0.0", MAX_CONCURRENT_ANSWERS="6") as service,
            invariants(service, TRUTH, cable) as case,
        ):
            async with AsyncExitStack() as placed:
                # The first event is what a frozen engine holds back, so that phase is the last to be set up.
                for phase, route in itertools.product(
                    sorted(PHASES, key="before the first event".__eq__), ROUTES.values()
                ):
                    await placed.enter_async_context(PHASES[phase](case, route))
                cable.cut()
                since = time.monotonic()
            await eventually(lambda: dropped(case), VANISHED_SECONDS)
            print(f"vanished clients: dropped after {time.monotonic() - since:.1f} s")


def dropped(case: Case) -> bool:
    """Whether the gateway has dropped every client, and the model every question."""
    gateway = case.service.gateway
    ended = [records(gateway, "request ended", asking) for asking, (requests, _) in case.lines.items() if requests]
    closed = [
        asked.closed.is_set()
        for client in case.clients
        if not client.told.ending
        for asked in case.asked_upstream(client)
    ]
    return all(ended) and all(closed) and descriptors(gateway) <= case.service.rest["gateway"]["descriptors"]


async def engine_is_cut_off() -> None:
    async with running_link() as link, service_of_its_own(link) as service:

        @asynccontextmanager
        async def cut(_: Service) -> AsyncIterator[None]:
            link.cut(close=False)
            yield
            link.heal()

        await engine_falls_silent(service, cut)


async def engine_is_frozen() -> None:
    async with service_of_its_own() as service:

        @asynccontextmanager
        async def freeze(service: Service) -> AsyncIterator[None]:
            with frozen(service.engine):
                yield

        await engine_falls_silent(service, freeze)


async def engine_falls_silent(service: Service, silence: Silence) -> None:
    """For callers in mid-stream, and for those that ask only then; afterwards all is well again."""
    async with invariants(service, TRUTH) as case, AsyncExitStack() as placed:
        before = [await placed.enter_async_context(mid_stream(case, route)) for route in ROUTES.values()]
        async with silence(service):
            since = time.monotonic()
            # What they ask reaches the engine when it is back, which then may or may not see that they have left.
            later = [await case.client(route, answers=None).ask() for route in ROUTES.values()]
            reading = [before[0].read_rest(TOLD_SECONDS), before[1].read_to_end(TOLD_SECONDS)]
            told = await asyncio.gather(*reading, *(client.read_to_end(TOLD_SECONDS) for client in later))
            print(f"silent engine: told after {time.monotonic() - since:.1f} s")
        async with asyncio.timeout(READY_SECONDS):
            await ready(service.gateway)
    assert [each.code for each in told] == ["ENGINE_UNAVAILABLE"] * 4
    assert [each.status for each in told] == [200, 503, 503, 503]


SCENARIOS: dict[str, Callable[[], Coroutine[None, None, None]]] = {
    "clients vanish": clients_vanish,
    "the engine is cut off": engine_is_cut_off,
    "the engine is frozen": engine_is_frozen,
}


@contextmanager
def running_scenarios() -> Iterator[dict[str, Future[None]]]:
    """Runs all of them in a loop and thread of their own; those not done at the end of the context are cancelled."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="silences")
    thread.start()
    running = {name: asyncio.run_coroutine_threadsafe(scenario(), loop) for name, scenario in SCENARIOS.items()}
    try:
        yield running
    finally:
        for scenario in running.values():
            scenario.cancel()
        asyncio.run_coroutine_threadsafe(_settled(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _settled() -> None:
    """Waits until what was cancelled has ended its processes."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)

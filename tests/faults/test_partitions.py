"""The gateway and the engine lose each other: whoever asks is told at once, and when they are back, all is well."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests import upstream as up
from tests.faults.client import STREAM
from tests.faults.invariants import CLOSED_WITHIN_SECONDS, invariants, rested
from tests.faults.network import running_link
from tests.faults.phases import ROUTES, TRUTH, mid_stream
from tests.faults.service import PATIENT, ready, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.network import Link
    from tests.faults.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOLD_SECONDS = 1.0
CONNECT_SECONDS = 5.0
"""An engine that does not even refuse is given up after 3."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def link() -> AsyncIterator[Link]:
    async with running_link() as link:
        yield link


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parted(link: Link) -> AsyncIterator[Service]:
    """A service whose processes can lose each other."""
    running = running_service(link, **PATIENT)
    service = await asyncio.to_thread(running.__enter__)
    try:
        yield await rested(service)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
async def test_partition_in_mid_stream_is_told_at_once_and_stops_the_model(
    parted: Service, link: Link, route: str
) -> None:
    async with invariants(parted, TRUTH) as case, mid_stream(case, route) as client:
        since = time.monotonic()
        link.cut(close=True)
        told = await (client.read_rest() if client.told.status else client.read_to_end())
        assert time.monotonic() - since < TOLD_SECONDS
        (asked,) = case.asked_upstream(client)
        await asked.closed.within()
        assert asked.closed_at is not None
        assert asked.closed_at - since < CLOSED_WITHIN_SECONDS
        link.heal()
        await ready(parted.gateway)
    assert (told.code, told.status) == ("ENGINE_UNAVAILABLE", 200 if route == STREAM else 503)


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
async def test_question_asked_in_a_partition_is_refused_in_time(parted: Service, link: Link, route: str) -> None:
    async with invariants(parted, TRUTH) as case:
        link.cut(close=True)
        since = time.monotonic()
        client = await case.client(route, answers=0).ask()
        told = await client.read_to_end()
        assert time.monotonic() - since < CONNECT_SECONDS
        link.heal()
        await ready(parted.gateway)
    assert (told.code, told.status) == ("ENGINE_UNAVAILABLE", 503)


async def test_answer_with_a_key_outlives_a_partition_and_is_resumed_whole(parted: Service, link: Link) -> None:
    async with invariants(parted, TRUTH) as case:
        gate = up.Signal()
        parted.upstream.default(
            up.stream_headers(), up.chunk("Hi"), up.gate(gate), up.chunk(" there"), up.finish(), up.done()
        )
        client = await case.client(key=str(uuid.uuid4()), requests=2).ask()
        await client.read_text("Hi")
        answer_id = client.told.events[0]["answer_id"]
        link.cut(close=True)
        told = await client.read_rest()
        assert (told.code, told.text) == ("ENGINE_UNAVAILABLE", "Hi")
        gate.set()
        link.heal()
        await ready(parted.gateway)
        await client.gone()
        told.events.pop()
        await (await client.resume(answer_id)).read_to_end()
        assert (told.code, told.text, told.whole) == ("", TRUTH, True)
        assert len(parted.upstream.requests) == 1

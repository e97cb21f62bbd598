"""A client that leaves, however and whenever, leaves nothing behind, and the model stops at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import Client
from tests.faults.invariants import invariants
from tests.faults.phases import PHASES, ROUTES, TRUTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.phases import Phase
    from tests.faults.service import Service

LEAVES: dict[str, Callable[[Client], None]] = {
    "RST": Client.reset,
    "FIN": Client.close,
    "half-close": Client.half_close,
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
async def test_leaving_stops_the_model_and_leaves_nothing_behind(
    service: Service, leave: Callable[[Client], None], phase: Phase, route: str
) -> None:
    async with invariants(service, TRUTH) as case:
        async with phase(case, route) as client:
            leave(client)
        if client.left_at:
            # An engine that did nothing meanwhile could not know.
            client.left_at = time.monotonic()
        if leave is Client.half_close:
            await client.read_rest()

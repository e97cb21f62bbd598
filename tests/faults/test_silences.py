"""Who falls silent without a word is found out in time, and afterwards all is well; see `tests.faults.silences`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.faults.network import require_namespaces
from tests.faults.silences import SCENARIOS, clients_vanish, running_scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future


@pytest.fixture(scope="module")
def silences() -> Iterator[dict[str, Future[None]]]:
    """All scenarios, running."""
    with running_scenarios() as running:
        yield running


@pytest.mark.parametrize("name", SCENARIOS)
async def test_silence_is_found_out_in_time_and_leaves_nothing_behind(
    silences: dict[str, Future[None]], name: str
) -> None:
    if SCENARIOS[name] is clients_vanish:
        require_namespaces()
    await asyncio.wrap_future(silences[name])

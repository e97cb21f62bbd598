"""One service for all the cases that do not end its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.invariants import rested
from tests.faults.service import running_service
from tests.faults.silences import running_scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from tests.faults.service import Service


@pytest.fixture(scope="package")
def shared_service() -> Iterator[Service]:
    with running_service() as service:
        yield service


@pytest.fixture(scope="package")
def silences() -> Iterator[dict[str, Future[None]]]:
    """The scenarios that take long, running: the tests of other modules pass meanwhile."""
    with running_scenarios() as running:
        yield running


@pytest.fixture
async def service(shared_service: Service) -> Service:
    """The service, at rest."""
    return await rested(shared_service)

"""One service for all the cases that do not end its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.invariants import rested
from tests.faults.service import running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.service import Service


@pytest.fixture(scope="package")
def shared_service() -> Iterator[Service]:
    with running_service() as service:
        yield service


@pytest.fixture
async def service(shared_service: Service) -> Service:
    """The service, at rest."""
    return await rested(shared_service)

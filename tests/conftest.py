"""What holds for every test, and the model's server that many of them script."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# A script that starts the tests in its background has them ignore Ctrl-C, and with them whatever they start and press
# it on.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says more of what else the machine does.
hypothesis.settings.register_profile("studyai", deadline=None)
hypothesis.settings.load_profile("studyai")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted server in the model's place."""
    async with Upstream() as running:
        yield running

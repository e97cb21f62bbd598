"""Waiting, but not for ever, for what tells no event: what another process does, or a state without a signal."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_SECONDS = 0.01


def eventually(condition: Callable[[], Any], within: float = 10, told: Callable[[], object] = lambda: None) -> None:
    """Blocks until `condition` holds; `told` says what there is instead, when it does not within so many seconds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(_PAUSE_SECONDS)


async def until(condition: Callable[[], Any], within: float = 5, told: Callable[[], object] = lambda: None) -> None:
    """The same for asyncio, where it may take an await to tell whether `condition` holds."""
    try:
        async with asyncio.timeout(within):
            while not await _told(condition()):
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        raise AssertionError(told()) from None


async def turns(count: int = 1) -> None:
    """Lets every task of this loop go so many steps: for tests about what holds at each of them, and no event tells."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _told(holds: Any) -> Any:
    return await holds if inspect.isawaitable(holds) else holds

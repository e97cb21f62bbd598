"""A watch over something that happens all the time, for when it does not: what happens costs an assignment.

A timer of the loop is set and cancelled in some microseconds, as much as a token's encoding. This one is set once, and
when it goes off it looks how late it really is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch:
    """Calls back when something has lasted too long. Stop it after use.

    Args:
        seconds: How long that is.
        ring: Called then, and again each time that it has lasted as long once more.
    """

    __slots__ = ("_loop", "_ring", "_seconds", "_timer", "since")

    def __init__(self, seconds: float, ring: Callable[[], object]) -> None:
        self.since: float | None = None
        """Since when it lasts, in the loop's time; None: it does not. Set by the owner."""
        self._seconds = seconds
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)

    def stop(self) -> None:
        """Looks no more, and lets go of whom it would call."""
        self._timer.cancel()
        self._ring = lambda: None

    def _look(self) -> None:
        now = self._loop.time()
        if self.since is not None and self.since + self._seconds <= now:
            self.since = now
            self._ring()
        self._timer = self._loop.call_at((now if self.since is None else self.since) + self._seconds, self._look)

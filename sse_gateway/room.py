"""Whether the engines have room, as far as their answers of late tell: where none has, a question need not be read."""

from __future__ import annotations

import asyncio

_QUESTIONS = 3
"""So many questions in a row that were refused, by each engine asked, say that all engines are full: one may have met
the same full engine twice, of ten that share a name."""
_IN_A_ROW_SECONDS = 1.0
"""Refusals further apart are not in a row, whatever came between them."""
_SECONDS = 0.1
"""How long that is taken for true: answers end all the time."""


class Room:
    """Kept by a client of the engines, which tells of each question what became of it."""

    def __init__(self) -> None:
        self._refused = 0
        self._last = 0.0

    def found(self) -> None:
        """A question was let in."""
        self._refused = 0

    def missed(self) -> None:
        """A question was refused because each engine that was asked is full."""
        now = asyncio.get_running_loop().time()
        self._refused = self._refused + 1 if now < self._last + _IN_A_ROW_SECONDS else 1
        self._last = now

    @property
    def none(self) -> bool:
        """Whether the next question would be refused, too."""
        return self._refused >= _QUESTIONS and asyncio.get_running_loop().time() < self._last + _SECONDS

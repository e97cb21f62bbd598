"""The text of an answer, by delta: one row of bytes, and where in it each delta ends.

Nine bytes for a usual token. As strings in a list it would be seventy, of each of thousands of open streams and of
every answer that is kept.
"""

from __future__ import annotations

from array import array


class Deltas:
    """Texts in a row, numbered from 1. They are Unicode without lone surrogates."""

    __slots__ = ("_ends", "_text")

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("I", (0,))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: str) -> None:
        """Adds a text."""
        self._text += text.encode()
        self._ends.append(len(self._text))

    def text(self, after: int = 0, last: int = -1) -> str:
        """Returns everything behind the text numbered `after`, and up to the one numbered `last`, as one."""
        return self._text[self._ends[after] : self._ends[last]].decode()

    def after(self, number: int) -> list[str]:
        """Returns the texts behind the one with this number."""
        return [self.text(before, before + 1) for before in range(number, len(self))]

    @property
    def size(self) -> int:
        """Bytes that they take."""
        return len(self._text) + self._ends.itemsize * len(self._ends)

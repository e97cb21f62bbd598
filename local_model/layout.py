"""Puts pieces of text that were found on a page into the order in which a person reads them."""

import itertools
from dataclasses import dataclass

_WIDEST_SPACE = 1.5
"""Within a line, in heights of its letters; what stands further apart belongs to another column."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of text and its place; x grows to the right and y downwards of the upright page."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> float:
        """The y of its centre."""
        return (self.top + self.bottom) / 2


def reading_order(fragments: list[Fragment]) -> list[str]:
    """Returns lines of text, from top to bottom and from left to right.

    Neighbours on one level become one line, unless a wide gap parts them.
    """
    rows: list[list[Fragment]] = []
    for fragment in sorted(fragments, key=lambda fragment: fragment.middle):
        if rows and rows[-1][0].top < fragment.middle < rows[-1][0].bottom:
            rows[-1].append(fragment)
        else:
            rows.append([fragment])
    return [line for row in rows for line in _lines(row)]


def _lines(row: list[Fragment]) -> list[str]:
    ordered = sorted(row, key=lambda fragment: fragment.left)
    lines = [ordered[0].text]
    for before, fragment in itertools.pairwise(ordered):
        height = min(before.bottom - before.top, fragment.bottom - fragment.top)
        if fragment.left - before.right < _WIDEST_SPACE * height:
            lines[-1] += f" {fragment.text}"
        else:
            lines.append(fragment.text)
    return lines

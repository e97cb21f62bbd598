"""The tokeniser: what this model streams, and what it counts.

A token is at most eight letters or three digits, or one other mark, with the single space before it; other
white space is a token of its own. The pieces are the streamed deltas themselves, so counts are true by
construction, and joining the pieces gives the text.
"""

import re

TILE = 512
"""Side of an image tile, in pixels."""

_PIECE = re.compile(r" ?(?:[^\W\d_]{1,8}|\d{1,3}|[^\s\w]|_)|\n+|\s")
_TOKENS_PER_IMAGE = 85
_TOKENS_PER_TILE = 170


def split(text: str) -> list[str]:
    """Cuts `text` into its tokens; joined they are `text` again."""
    return _PIECE.findall(text)


def image_tokens(width: int, height: int) -> int:
    """Returns the cost in tokens of a picture of that many pixels: a base, and a price for each tile begun."""
    tiles = -(-width // TILE) * -(-height // TILE)
    return _TOKENS_PER_IMAGE + _TOKENS_PER_TILE * tiles

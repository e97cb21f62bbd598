"""The answers that the benchmark's model gives: made-up words, the same in every run, some 3.5 characters a token.

Made up and not taken from a book: repeated sentences would flatter compression.
"""

from __future__ import annotations

import functools
import random

FIRST = "Answer"
"""The first token of every answer, and nowhere else: what a client waits for to time the first token."""


_MOST = 4000


@functools.cache
def _words() -> tuple[str, ...]:
    rng = random.Random(20251007)
    syllables = [c + v + e for c in "bdfgklmnprstv" for v in "aeiou" for e in ("", "n", "r", "st")]
    weights = [1 / (rank + 10) for rank in range(len(syllables))]  # Zipf's law, more or less
    rng.shuffle(syllables)
    words = rng.choices(syllables, weights, k=_MOST - 1)
    return (FIRST, *(" " + word if rng.random() < 0.6 else word for word in words))


def tokens(count: int) -> tuple[str, ...]:
    """Returns so many tokens, 4,000 at most; the shorter answers are the beginnings of the longer ones."""
    return _words()[:count]


def text(count: int) -> str:
    """Returns the answer of so many tokens."""
    return "".join(tokens(count))

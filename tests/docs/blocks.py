"""The blocks of code in the documents, and what has come out where they were run."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One of them."""

    document: str
    language: str
    code: str
    before: str
    """The paragraph above it."""
    transcript: str
    """What it is said to bring: the block of text that follows at once, if one does."""

    def __str__(self) -> str:
        return f"{self.document}:{self.code.splitlines()[0][:60]}"


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text()
    found = list(_BLOCK.finditer(text))
    follows = {
        one.end(): after[2] if after[1] == "text" and not text[one.end() : after.start()].strip() else ""
        for one, after in itertools.pairwise(found)
    }
    return [
        Block(
            document.name,
            one[1],
            one[2],
            text[: one.start()].rstrip().rpartition("\n\n")[2],
            follows.get(one.end(), ""),
        )
        for one in found
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def shapes(text: str) -> set[tuple[str, ...]]:
    """The objects of JSON in it, one a line: for each its type, and the names of its members."""
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    return {(str(members.get("type")), *sorted(members)) for members in objects}

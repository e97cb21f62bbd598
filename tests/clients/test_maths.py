"""Formulas stay on a terminal as they were written, however they come, and a price is none."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from studyai_client.cli.rendering import MarkdownStream
from tests import upstream as up
from tests.clients.terminal import ASK, terminal
from tests.clients.test_terminal import text_of

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service

ANSWER = (
    "Here $2*3*4 = 24$ and $a*b*c$, \\(x^2\\),\n$A = \\{1, 2\\}$ and $2\\cdot x\\,dx$.\n\n"
    "\\[ \\begin{cases} x=1 \\\\ y=2 \\end{cases} \\]\n"
)


def shown(text: str, step: int) -> str:
    """What is on the screen in the end of an answer that comes in pieces of so many letters."""
    written = io.StringIO()
    stream = MarkdownStream(Console(file=written, force_terminal=True, width=80, height=20), gap=False)
    for at in range(0, len(text), step):
        stream.feed(text[at : at + step])
    stream.finish()
    return re.sub(r"\s+", " ", text_of(written.getvalue())).strip()


def test_terminal_shows_formulas_as_they_were_written(service: Service) -> None:
    service.upstream.script(*up.answer(*re.findall(r".{1,3}", ANSWER, re.DOTALL)))
    with terminal(*ASK, "--url", service.url) as screen:
        assert screen.end() == 0
        assert re.sub(r"\s+", " ", ANSWER).strip() in re.sub(r"\s+", " ", screen.text)


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (ANSWER, re.sub(r"\s+", " ", ANSWER).strip()),
        ("So 2*3*4 = 24, (a)*(b)*(c), (a)*b*(c), x**2 + y**2 and 2*π*r.", None),
        ("$$\na\n- b\n= c\n# d\n$$\n\nEnd.", "$$ a - b = c # d $$ End."),
        ("1. Solve\n   \\[\n   x\n   - 1\n   \\]\n2. Next", "1 Solve \\[ x - 1 \\] 2 Next"),
        ("> $$\n> x_1 \\\\\n> - y\n> $$", "▌ $$ ▌ x_1 \\\\ ▌ - y ▌ $$"),
        ("The power $2**3 = 8$", None),
        ("It costs $5 and *not* $10, or $5-*up*-$10.", "It costs $5 and not $10, or $5-up-$10."),
        ("`$a` and *b* and `c$`, **un** and *f*(x), 这是**重点**内容", "$a and b and c$, un and f(x), 这是重点内容"),
        ("The sign \\( opens.", "The sign ( opens."),
        ("Never \\(closed *here*.\n\nEnd.", "Never (closed here. End."),
    ],
)
def test_marks_of_formulas_stay_and_those_of_markdown_go(written: str, expected: str | None, step: int) -> None:
    assert shown(written, step) == (expected or written)

"""Long answers: the page stays responsive, and what is finished of an answer is never drawn again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests import upstream as up
from tests.upstream import Signal
from tests.web.conftest import ask, gated, on_a_phone

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.end_to_end.conftest import Service

# 100 ms is when people notice. It holds where the browser has a core of its own; on a busy machine a task is
# as long as it takes the processor to come back to it, which says nothing of the page.
TRIES = 3
ALONE_MS, BUSY_MS = 100, 400


def longest_allowed() -> int:
    busy = "PYTEST_XDIST_WORKER" in os.environ or os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
    return BUSY_MS if busy else ALONE_MS


WATCH = """
    window.tasks = [];
    new PerformanceObserver((seen) => window.tasks.push(...seen.getEntries().map((task) => Math.round(task.duration))))
        .observe({type: "longtask"});
"""
PARAGRAPH = """**Step {n}.** With $a_{n} = \\frac{{{n}}}{{2}}$ we get

$$\\sum_{{k=1}}^{{{n}}} k = \\frac{{{n}({n}+1)}}{{2}}$$

- one
- `two`

"""
STEPS = "".join(PARAGRAPH.format(n=number) for number in range(1, 120))
PROGRAM = (
    "```python\n" + "".join(f"print({n})  # a line of a program, {n}\n" for n in range(2000)) + "```\n\nThat was it.\n"
)
TABLE = (
    "| n | square | cube |\n|---|---|---|\n"
    + "".join(f"| {n} | **{n**2}** | ${n**3}$ |\n" for n in range(500))
    + "\nEnd.\n"
)
LIST = "".join(f"{n}. Item **{n}** with `code` and some words\n" for n in range(1, 1001)) + "\nEnd.\n"
NESTED = "- all\n" + "".join(f"  - part {n} of it\n" for n in range(400)) + "\nEnd.\n"
ONE_PARAGRAPH = " ".join(f"Then $x_{{{n}}} = \\frac{{{n}}}{{7}}$ and **so on**." for n in range(150)) + "\n\nEnd.\n"
EXPECTED = {
    "steps": (STEPS, ".answer > p", 119),
    "program": (PROGRAM, ".answer > pre", 1),
    "table": (TABLE, ".answer tbody tr", 500),
    "list": (LIST, ".answer > ol > li", 1000),
    "nested list": (NESTED, ".answer > ul > li > ul > li", 400),
    "paragraph": (ONE_PARAGRAPH, ".answer > p", 2),
}


def longest_task_of_streaming(page: Page, service: Service, text: str) -> int:
    """Streams a text as 5,000 tokens at most, and returns the milliseconds of the longest task meanwhile."""
    size = max(3, -(-len(text) // 5000))
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    page.get_by_role("button", name="New page").click()
    page.evaluate(WATCH)
    service.upstream.script(up.stream_headers(), *map(up.chunk, pieces), up.finish(), up.usage(7, 3), up.done())
    ask(page)
    expect(page.get_by_role("button", name="Ask")).to_be_visible(timeout=60_000)
    return int(page.evaluate("Math.max(0, ...window.tasks)"))


@pytest.mark.parametrize("kind", EXPECTED)
def test_long_answer_is_all_there_and_keeps_the_page_responsive(page: Page, service: Service, kind: str) -> None:
    text, selector, count = EXPECTED[kind]
    longest: list[int] = []
    allowed = longest_allowed()
    while len(longest) < TRIES and min(longest, default=allowed + 1) > allowed:
        longest.append(longest_task_of_streaming(page, service, text))
        assert page.locator(selector).count() == count
    assert min(longest) <= allowed, longest


SLOW = "() => { let now = 0; performance.now = () => (now += 50); }"
"""Whatever is done takes longer than a frame may, by the page's clock."""


@on_a_phone
def test_answer_appears_where_a_frame_has_no_time_for_anything(page: Page, service: Service) -> None:
    page.evaluate(SLOW)
    opened = gated(service, "First.\n\nSec", "ond.\n\n- a\n- b\n\nLast.")
    ask(page)
    expect(page.locator(".answer")).to_contain_text("Sec")
    opened.set()
    expect(page.locator(".answer > p")).to_have_text(["First.", "Second.", "Last."])
    expect(page.locator("#said")).to_contain_text("The answer: First.")


def test_what_is_finished_stays_the_same_nodes_while_the_answer_grows(page: Page, service: Service) -> None:
    opened = Signal()
    beginning = "First.\n\n| a | b |\n|---|---|\n" + "| 1 | $2$ |\n" * 30
    service.upstream.script(
        up.stream_headers(),
        *map(up.chunk, beginning),
        up.gate(opened),
        *map(up.chunk, "| 3 | 4 |\n" * 30 + "\nLast."),
        up.finish(),
        up.done(),
    )
    ask(page)
    expect(page.locator(".answer tbody tr")).to_have_count(30)
    page.evaluate("""() => {
        window.before = [...document.querySelectorAll(".answer p, .answer table, .answer tr, .answer .katex")];
        window.removed = 0;
        const note = (changes) => { window.removed += changes.flatMap((change) => [...change.removedNodes]).length; };
        new MutationObserver(note).observe(document.querySelector(".answer"), {childList: true, subtree: true});
    }""")
    opened.set()
    expect(page.locator(".answer > p").last).to_have_text("Last.")
    assert page.evaluate("window.before.every((node) => node.isConnected)")
    assert page.evaluate("window.removed") == 0
    assert page.locator(".answer tbody tr").count() == 60


HALVES = (
    "Intro:\n- one **bold** and `code`\n\n| h | k |\n|---|---|\n| 1 | 2 |\n\nSo $x^2$ and\n\n$$\ny\n$$\n\n## Title\n"
)

WATCH_DRAWING = """() => {
    const answer = document.querySelector(".answer");
    const frame = window.requestAnimationFrame;
    window.seen = new Set();
    const note = () => window.seen.add(answer.innerHTML.replace(/<annotation.*?<\\/annotation>/g, ""));
    let drawn;
    window.watch = () => {
        window.drawing = new Promise((done, late) => {
            drawn = done;
            setTimeout(late, 10_000, new Error("nothing was drawn"));
        });
        window.drawing.catch(() => {});
    };
    window.requestAnimationFrame = (draw) => frame((now) => { draw(now); note(); drawn(); });
}"""


def test_nothing_is_shown_as_what_it_is_not_while_it_comes_character_by_character(page: Page, service: Service) -> None:
    """A list is no heading before its first word, a table no text with bars, and no mark or dollar is seen."""
    gates = [Signal() for _ in HALVES]
    service.upstream.script(up.stream_headers(), *up.gated(gates, HALVES), up.finish(), up.done())
    ask(page)
    service.upstream.block_request()
    page.evaluate(WATCH_DRAWING)
    for opened in gates:
        page.evaluate("window.watch()")
        opened.set()
        page.evaluate("window.drawing")
    expect(page.locator(".answer h2")).to_have_text("Title")
    seen = page.evaluate("[...window.seen]")
    assert len(seen) > 20  # nearly every character that brings something to be seen
    assert not [html for html in seen if any(mark in html for mark in ("**", "|", "$", "##", "`", "---"))]
    assert not [html for html in seen if "<h2>" in html and "<h2>T" not in html]

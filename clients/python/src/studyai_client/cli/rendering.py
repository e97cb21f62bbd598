"""Markdown that is rendered while it is written, without flicker.

Only the last block can still change: what is before it is printed once, for good, and scrolls away as anything does.
The last one is drawn again and again in place, never higher than the screen: of a longer one the end is shown until it
is whole.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.segment import Segment
from rich.spinner import Spinner

from studyai_client.cli.maths import closed, masked, maths

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_WIDEST = 100
"""Columns: longer lines are hard to read."""
_PER_SECOND = 15
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table").enable("strikethrough").use(maths)


class MarkdownStream:
    """Shows text that grows.

    Rich's own refreshing is not used: it may come between what is printed and the move of the cursor that was reckoned
    before, and wipe out lines. Here both hold one lock.

    Args:
        console: The terminal.
        gap: Whether an empty line comes first.
    """

    def __init__(self, console: Console, *, gap: bool) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._text = ""
        """What is not printed yet."""
        self._gap = gap

    def wait(self) -> None:
        """Shows that something is to come."""
        self._run()

    def feed(self, text: str) -> None:
        """Shows more text."""
        self._run()
        with self._lock:
            self._text += text
            if "\n" in text:
                whole, self._text = _split(self._text)
                self._print(whole)

    def settle(self) -> None:
        """Takes what moves off the screen; it is there again with the next text."""
        if self._ticker:
            self._stop.set()
            self._ticker.join()
            self._ticker = None
        if self._live:
            self._live.stop()
            self._live = None

    def finish(self) -> None:
        """Prints what is left."""
        self.settle()
        rest, self._text = self._text, ""
        self._print(_closed(rest))

    def _run(self) -> None:
        if self._live:
            return
        self._live = Live(
            console=self._console,
            get_renderable=self._moving,
            auto_refresh=False,
            transient=True,
            vertical_overflow="visible",
        )
        self._live.start()
        self._stop.clear()
        self._ticker = threading.Thread(target=self._tick, args=(self._live,), daemon=True)
        self._ticker.start()

    def _tick(self, live: Live) -> None:
        while not self._stop.wait(1 / _PER_SECOND):
            with self._lock:
                live.refresh()

    def _print(self, text: str) -> None:
        if not text.strip():
            return
        block, self._gap = _Block(text, gap=self._gap), True
        # In one write: what moves without this block, and the block above it.
        with self._console:
            if self._live:
                self._live.refresh()
            self._console.print(block)

    def _moving(self) -> RenderableType:
        text, gap = self._text, self._gap
        if not text.strip():
            spinner = "dots" if self._console.encoding.startswith("utf") else "line"
            return Padding(Spinner(spinner, style="dim"), (int(gap), 0, 0, 0))
        # One line less than the screen has: the cursor stands below.
        return _Block(closed(_closed(text)), gap=gap, height=self._console.height - 1)


class _Block:
    """Markdown without the empty lines around it that depend on its kind.

    Args:
        text: The Markdown.
        gap: Whether an empty line comes before it.
        height: How many lines there is room for; of more, the last ones are shown.
    """

    def __init__(self, text: str, *, gap: bool, height: int | None = None) -> None:
        self._text = text
        self._gap = gap
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _WIDEST)
        drawn = console.render_lines(_markdown(self._text), options.update(width=width, height=None), pad=False)
        gap: list[list[Segment]] = [[]] if self._gap else []
        lines = gap + _trimmed(drawn)
        for line in lines[-self._height :] if self._height else lines:
            yield from line
            yield Segment.line()


def _markdown(text: str) -> Markdown:
    """Returns text to be rendered. Rich's own parser takes `List<String>` for HTML, and shows none of that."""
    markdown = Markdown("")
    markdown.parsed = _PARSER.parse(text)
    return markdown


def _trimmed(lines: list[list[Segment]]) -> list[list[Segment]]:
    shown = [number for number, line in enumerate(lines) if any(segment.text.strip() for segment in line)]
    return lines[shown[0] : shown[-1] + 1] if shown else []


def _closed(text: str) -> str:
    """Returns text with the marks closed that its end has left open, so that they are not seen as such meanwhile."""
    if "```" in text:
        return text
    for mark in ("`", "**"):
        seen = masked(text)
        if seen.count(mark) % 2:
            last = seen.rindex(mark)
            text = f"{text.rstrip()}{mark}" if text[last + len(mark) :].strip() else text[:last]
    return text


def _split(text: str) -> tuple[str, str]:
    """Returns the blocks that cannot change any more, and the last one."""
    starts = [token.map[0] for token in _PARSER.parse(closed(text)) if token.level == 0 and token.map]
    if not starts or starts[-1] == 0:
        return "", text
    lines = text.split("\n")  # as the parser does, which takes U+2028 and its like for letters
    return "\n".join(lines[: starts[-1]]) + "\n", "\n".join(lines[starts[-1] :])

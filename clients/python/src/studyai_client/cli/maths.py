r"""Formulas in Markdown, $…$, $$…$$, \(…\) and \[…\], kept as they were written: a terminal cannot draw them.

What is a formula, and what is money, is decided as on the service's page (sse_gateway/web/js/maths.js). Outside of
formulas an asterisk between two factors is a multiplication, and begins no emphasis.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

_CLOSINGS = {"$$": "$$", r"\[": r"\]", r"\(": r"\)"}
_EMPTY_LINE = re.compile(r"\n[ \t]*\n")
"""Ends a formula in TeX, too."""
_INSIDE = rf"(?:(?!{_EMPTY_LINE.pattern}).)+?"
# As Pandoc has it: no space before the closing dollar, no digit behind it, so that prices are none.
_FORMULA = re.compile(
    rf"\$\$(?!\$\$){_INSIDE}\$\$ | \\\[(?!\\\]){_INSIDE}\\\] | \\\((?!\\\)){_INSIDE}\\\) "
    r"| \$(?![\s$])[^\n]*?(?<![\s\\])\$(?!\d)",
    re.DOTALL | re.VERBOSE,
)
_LETTER = r"0-9A-Za-z²³¹\u00c0-\u024f\u0370-\u052f"
"""Of scripts that part words by spaces: in others emphasis stands between letters."""
_TIMES = re.compile(rf"(?:(?<=[{_LETTER})\]}}|])(?=\*\*?[{_LETTER}])|(?<=[)\]}}|])(?=\*\*?[(\[{{|]))\*\*?")
_STEP = re.compile(
    rf"(?P<code>(?P<ticks>`+)(?:.*?(?P=ticks)|.*\Z))|(?P<kept>(?x:{_FORMULA.pattern})|{_TIMES.pattern})"
    r"|(?P<open>\$\$|\\\[|\\\()|\\.",
    re.DOTALL,
)


def maths(markdown: MarkdownIt) -> None:
    """A plugin of markdown-it."""
    markdown.inline.ruler.before("escape", "maths", _inline)
    markdown.inline.ruler.before("emphasis", "times", _times)
    markdown.block.ruler.before("fence", "maths", _block, {"alt": ["paragraph", "blockquote", "list"]})


def closed(text: str) -> str:
    """Returns text with the formula closed that its end has left open; a single dollar may be a price, and is left."""
    for step in _STEP.finditer(text):
        if step["open"] and not _EMPTY_LINE.search(text, step.end()):
            return text + _CLOSINGS[step["open"]]
    return text


def masked(text: str) -> str:
    """Returns text of the same length in which no mark of Markdown is a formula's, or a multiplication."""
    return _STEP.sub(lambda step: "x" * len(step[0]) if step["kept"] else step[0], text)


def _inline(state: StateInline, silent: bool) -> bool:
    return _keep(state, _FORMULA, silent=silent)


def _times(state: StateInline, silent: bool) -> bool:
    return _keep(state, _TIMES, silent=silent)


def _keep(state: StateInline, pattern: re.Pattern[str], *, silent: bool) -> bool:
    found = pattern.match(state.src, state.pos)
    if not found:
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Makes one paragraph of a formula whose lines would begin lists, headings or quotations."""
    start = state.bMarks[start_line] + state.tShift[start_line]
    close = _CLOSINGS.get(state.src[start : start + 2])
    if close not in ("$$", r"\]"):
        return False
    lines: list[str] = []
    for line in range(start_line, end_line):
        if line > start_line and state.isEmpty(line):
            return False
        # Within a quotation a line begins with its marks.
        lines.append(state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]])
        _, ends, behind = lines[-1][0 if lines[1:] else 2 :].partition(close)
        if ends:
            return not behind.strip() and (silent or _paragraph(state, start_line, lines))
    return False


def _paragraph(state: StateBlock, start_line: int, lines: list[str]) -> bool:
    state.line = start_line + len(lines)
    state.push("paragraph_open", "p", 1).map = [start_line, state.line]
    inline = state.push("inline", "", 0)
    inline.content, inline.children = "\n".join(lines).strip(), []
    state.push("paragraph_close", "p", -1)
    return True

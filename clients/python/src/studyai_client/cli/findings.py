"""What the doctor finds, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

State = Literal["good", "doubtful", "bad", "skipped"]
_SIGNS: dict[State, tuple[str, str]] = {
    "good": ("✓", "green"),
    "doubtful": ("!", "yellow"),
    "bad": ("✗", "bold red"),
    "skipped": ("–", "dim"),
}
_SUBJECT_WIDTH = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: State
    subject: str
    fact: str
    """What was found, without any secret."""
    advice: str = ""
    """What to do about it."""


def tell(finding: Finding, console: Console) -> None:
    """Prints a finding: a sign, the subject, the fact, and the advice below it. In a pipe the lines stay whole."""
    if console.is_terminal:
        console.print(_table(finding))
        return
    print(f"{_SIGNS[finding.state][0]} {finding.subject:<{_SUBJECT_WIDTH}} {finding.fact}")
    if finding.advice:
        print(f"{'':<{_SUBJECT_WIDTH + 3}}→ {finding.advice}", flush=True)


def _table(finding: Finding) -> Table:
    sign, style = _SIGNS[finding.state]
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(style="bold", no_wrap=True, min_width=_SUBJECT_WIDTH)
    table.add_column(overflow="fold")
    table.add_row(Text(sign, style=style), finding.subject, Text(finding.fact, style=_style_of_fact(finding)))
    if finding.advice:
        table.add_row("", "", Text(f"→ {finding.advice}", style="yellow"))
    return table


def _style_of_fact(finding: Finding) -> str:
    return "dim" if finding.state == "skipped" else ""

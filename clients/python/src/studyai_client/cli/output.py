"""How an answer is shown: rendered on a terminal, plain in a pipe, or as JSON.

The answer goes to standard output, piece by piece; what is said about it goes to standard error.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.text import Text

from studyai_client.cli.rendering import MarkdownStream

if TYPE_CHECKING:
    from studyai_client.errors import StudyAIError
    from studyai_client.events import Delta, Event, Finished, Started

_CUT = {
    "length": "cut at the token limit",
    "content_filter": "cut by the model's provider",
    "stopped": "stopped",
}

_CONTROLS = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"]
_HARMLESS = dict.fromkeys(_CONTROLS, "\ufffd") | {ord("\r"): " "}
"""To a terminal, control characters are orders, and neither an answer nor who poses as the service may give any."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the user wants it."""

    as_json: bool = False
    plain: bool = False
    quiet: bool = False


def output_for(style: Style) -> Output:
    """Returns what shows answers in a style, where the output goes."""
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    if style.as_json:
        return JsonOutput(notes, quiet=True)
    console = Console(highlight=False)
    if style.plain or not console.is_terminal or console.is_dumb_terminal:
        return PlainOutput(notes, quiet=style.quiet)
    return TerminalOutput(notes, console, quiet=style.quiet)


class Output:
    """Shows an answer; enter it for the time of one. The base says what is to be said, and shows no answer.

    Args:
        notes: Standard error.
        quiet: Whether to say nothing but failures there.
    """

    def __init__(self, notes: Console, *, quiet: bool) -> None:
        self._notes = notes
        self._quiet = quiet
        self._begun = False
        self._session: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Makes place for something else."""

    def started(self, event: Started) -> None:
        """Says whose answer it is, and by which name it is found again."""
        self.pause()
        if self._begun:
            self.note("The service has lost that answer. Another one:", style="yellow")
        self._begun, self._session = True, event.session_id
        self.note(f"{event.model} · answer {event.answer_id}")

    def delta(self, event: Delta) -> None:
        """Shows more of the text."""

    def finished(self, event: Finished) -> None:
        """Says what the answer cost, and where to ask on."""
        self.pause()
        about = "about " if event.usage.estimated else ""
        facts = [
            f"{about}{event.usage.total_tokens:,} tokens",
            f"{event.elapsed.total_seconds():.1f} s",
            _CUT.get(event.finish_reason),
            f"session {self._session}" if self._session else None,
        ]
        self.note(" · ".join(fact for fact in facts if fact))

    def retrying(self, error: StudyAIError, pause: float) -> None:
        """Says that something broke, and what is done about it."""
        self.pause()
        wait = f"in {pause:.0f} s" if pause >= 1 else "at once"
        what = error.message.removesuffix(" Please try again.").removesuffix(".")
        self.note(f"{what}; trying again {wait} …", style="yellow")

    def failed(self, error: StudyAIError) -> None:
        """Says what failed, and what can be done about it."""
        self.pause()
        request = f", request {error.request_id}" if error.request_id else ""
        self._say(Text.assemble(("studyai: ", "bold red"), f"{error.message} ", (f"({error.code}{request})", "dim")))
        if advice := _advice(error):
            self._say(Text(advice))

    def interrupted(self, answer_id: str | None, *, stopped: bool, begun: bool = True) -> None:
        """Says what became of an answer whose reader left; `begun`: whether there may be any of its text."""
        self.pause()
        if answer_id and stopped and not begun:
            self.note("Stopped, before anything was written.")
        elif answer_id and stopped:
            self.note(f"Stopped. What was written: studyai resume {answer_id}")
        elif answer_id:
            self.note(f"Left. To go on: studyai resume {answer_id}; to stop it: studyai stop {answer_id}")

    def note(self, text: str, style: str = "dim") -> None:
        """Says something about the answer."""
        if not self._quiet:
            self._say(Text(text, style=style))

    def _say(self, text: Text) -> None:
        text.plain = text.plain.translate(_HARMLESS)
        self._notes.print(text)


class PlainOutput(Output):
    """The text as it comes, flushed piece by piece."""

    def __init__(self, notes: Console, *, quiet: bool) -> None:
        super().__init__(notes, quiet=quiet)
        self._open_line = False

    def pause(self) -> None:
        """Ends the line."""
        if self._open_line:
            self._open_line = False
            _write("\n")

    def delta(self, event: Delta) -> None:
        """Shows more of the text."""
        self._open_line = not event.text.endswith("\n")
        _write(event.text.translate(_HARMLESS) if sys.stdout.isatty() else event.text)

    def retrying(self, error: StudyAIError, pause: float) -> None:
        """See `Output`. The line goes on after it."""
        open_line, self._open_line = self._open_line, False
        if open_line and self._notes.is_terminal:
            self._notes.print()
        super().retrying(error, pause)
        self._open_line = open_line


class TerminalOutput(Output):
    """Rendered Markdown that grows."""

    def __init__(self, notes: Console, console: Console, *, quiet: bool) -> None:
        super().__init__(notes, quiet=quiet)
        self._rendering = MarkdownStream(console, gap=not quiet)

    def __enter__(self) -> Self:
        self._rendering.wait()
        return self

    def pause(self) -> None:
        """Settles what was shown."""
        self._rendering.settle()

    def started(self, event: Started) -> None:
        """See `Output`. What there is of an answer before it stays."""
        self._rendering.finish()
        super().started(event)
        self._rendering.wait()

    def delta(self, event: Delta) -> None:
        """Shows more of the text."""
        self._rendering.feed(event.text.translate(_HARMLESS))

    def finished(self, event: Finished) -> None:
        """See `Output`."""
        self._rendering.finish()
        self._part()
        super().finished(event)

    def failed(self, error: StudyAIError) -> None:
        """See `Output`. What was written stays."""
        self._rendering.finish()
        super().failed(error)

    def interrupted(self, answer_id: str | None, *, stopped: bool, begun: bool = True) -> None:
        """See `Output`. What was written stays."""
        self._rendering.finish()
        super().interrupted(answer_id, stopped=stopped, begun=begun)

    def _part(self) -> None:
        if not self._quiet:
            self._notes.print()


class JsonOutput(Output):
    """Each event as a line of JSON, failures too."""

    def started(self, event: Started) -> None:
        """Writes the event."""
        _write_json("started", _members(event))

    def delta(self, event: Delta) -> None:
        """Writes the event."""
        _write_json("delta", _members(event))

    def finished(self, event: Finished) -> None:
        """Writes the event."""
        _write_json("finished", _members(event))

    def failed(self, error: StudyAIError) -> None:
        """Writes the failure, and says it."""
        names = ("code", "message", "retryable", "retry_after", "request_id", "answer_id", "partial_text")
        _write_json("error", {name: getattr(error, name) for name in names})
        super().failed(error)


def _advice(error: StudyAIError) -> str:
    """Returns what the user can do about a failure."""
    match error.code:
        case "CONNECTION_FAILED" if not error.retryable:
            return "Check the address: --url or STUDYAI_URL; with --grpc, --engine or AI_ENGINE_URL."
        case "CONNECTION_FAILED" | "PROTOCOL" | "ENGINE_UNAVAILABLE" | "UPSTREAM_AUTH":
            return "`studyai doctor` finds out why."
        case "UNAUTHENTICATED":
            return "Set STUDYAI_TOKEN to a bearer token, or SERVICE_TOKEN for --grpc."
        case "INVALID_REQUEST" if "picture is required" in error.message:
            return "The session has no picture yet: studyai ask PICTURE QUESTION --session ID"
        case "ANSWER_NOT_FOUND" if error.partial_text:
            return "The service has forgotten it, as an engine without Redis does when it restarts: ask again."
        case "ANSWER_NOT_FOUND":
            return "Answers are kept for some minutes, for the student who asked alone: --student ID, if one was named."
        case "DEADLINE_EXCEEDED":
            return "Try again, or give it longer: --timeout SECONDS"
        case "CONNECTION_LOST" if error.answer_id:
            return f"What there is of it: studyai resume {error.answer_id}"
    if error.retry_after:
        return f"Try again in {max(1, round(error.retry_after))} s."
    return "Try again." if error.retryable else ""


def _members(event: Event) -> dict[str, Any]:
    return asdict(event)


def _write_json(kind: str, members: dict[str, Any]) -> None:
    # Where the output has not every letter, JSON has a way to write them all the same.
    ascii_alone = not sys.stdout.encoding.lower().startswith("utf")
    _write(json.dumps({"type": kind, **members}, ensure_ascii=ascii_alone, default=_plain) + "\n")


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    raise TypeError(type(value).__name__)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""The command `studyai`, an extra of the package: what it needs is asked for in a sentence, not in a traceback."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path
from typing import TextIO, cast

INTERRUPTED = 130
"""128 + SIGINT."""
_PLAIN = {"✓": "+", "✗": "x", "–": "-", "→": "->", "·": "-", "…": "...", "“": '"', "”": '"', "×": "x", "•": "*"}
"""What is written in place of letters that the output's encoding lacks; others become question marks."""


def main() -> None:
    """Runs the command."""
    _open_streams()
    try:
        from studyai_client.cli.app import app  # noqa: PLC0415 - it needs what may not be there, and takes a moment
    except ModuleNotFoundError as error:
        sys.exit(f"studyai: {error.name} is missing: pip install './clients/python[cli]'")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    app()


def _open_streams() -> None:
    """Makes the standard streams usable: a shell may have closed them, or name an encoding that lacks a letter."""
    if cast("TextIO | None", sys.stderr) is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if cast("TextIO | None", sys.stdout) is None:
        sys.exit("studyai: standard output is closed")
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # as a shell's are
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end

"""The command as a user runs it: a process, in a pipe or on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyte

from tests.end_to_end.conftest import WORKSHEET, tool
from tests.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PICTURE = str(WORKSHEET)
ASK = ("ask", PICTURE, "What is x?")
STUDYAI = str(Path(sys.executable).parent / "studyai")
COLUMNS, LINES = 80, 20
SECONDS = 20


def environment(**settings: str) -> dict[str, str]:
    # A warning at the interpreter's end would be seen on standard error.
    return clean_environment(**{"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), **settings})


@contextmanager
def started(*arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The command with its output in pipes, ended at the latest with the context."""
    with subprocess.Popen(
        [STUDYAI, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**settings),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(
    *arguments: str, stdin: bytes = b"", cwd: Path | None = None, settings: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Runs the command to its end; returns its status, output and standard error."""
    ended = subprocess.run(
        [STUDYAI, *arguments],
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
        cwd=cwd,
        check=False,
        env=environment(**(settings or {})),
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


class Terminal:
    """A command on a terminal, and what is on its screen.

    Args:
        command: The program and its arguments.
        settings: Its environment.
    """

    def __init__(self, command: Sequence[str], settings: Mapping[str, str]) -> None:
        self.raw = bytearray()
        """What was written to it."""
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000, ratio=1)
        self._stream = pyte.ByteStream(self.screen)
        self._changed = threading.Condition()
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (LINES, COLUMNS))
        self._process = subprocess.Popen(
            # The terminal is the command's own, so that its keys make signals.
            [tool("setsid"), "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(**{"LINES": str(LINES), **settings}),
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """Everything that was on the screen, and is."""
        with self._changed:
            columns = range(self.screen.columns)
            above = ["".join(line[column].data for column in columns) for line in self.screen.history.top]
            return "\n".join(line.rstrip() for line in [*above, *self.screen.display]).rstrip()

    def is_bold(self, word: str) -> bool:
        """Tells whether a word on the screen is."""
        with self._changed:
            number, line = next((n, line) for n, line in enumerate(self.screen.display) if word in line)
            return bool(self.screen.buffer[number][line.index(word)].bold)

    def until(self, text: str) -> None:
        """Waits until the screen has this."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in "\n".join(self.screen.display), SECONDS), self.screen.display

    def resize(self, columns: int) -> None:
        """Makes it wider or narrower, and has the command told so."""
        with self._changed:
            self.screen.resize(LINES, columns)
        termios.tcsetwinsize(self._master, (LINES, columns))

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def end(self) -> int:
        """Waits for the end; returns the status."""
        status = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return status

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(SECONDS)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # EIO: nobody has the other end any more
                return
            with self._changed:
                self.raw += data
                self._stream.feed(data)
                self._changed.notify_all()


@contextmanager
def terminal(*arguments: str, **settings: str) -> Iterator[Terminal]:
    """The command on a terminal, for the time of the context."""
    with opened_terminal([STUDYAI, *arguments], settings) as opened:
        yield opened


@contextmanager
def opened_terminal(command: Sequence[str], settings: Mapping[str, str]) -> Iterator[Terminal]:
    """Any program on a terminal, for the time of the context."""
    opened = Terminal(command, settings)
    try:
        yield opened
    finally:
        opened.close()

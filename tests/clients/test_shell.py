"""The command in a shell: pipes and encodings, streams that are closed, full or no picture, and Ctrl-C."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.terminal import ASK, PICTURE, STUDYAI, environment, opened_terminal, run, terminal
from tests.end_to_end.conftest import tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Service

WORDS = "Café × 数 ✓"


def shell(line: str, **settings: str) -> tuple[int, str, str]:
    """Runs a line of bash; returns its status, output and standard error."""
    ended = subprocess.run(
        [tool("bash"), "-c", line],
        capture_output=True,
        check=False,
        timeout=20,
        stdin=subprocess.DEVNULL,
        env=environment(STUDYAI=STUDYAI, PICTURE=PICTURE, **settings),
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def test_pipe_gets_the_answer_as_it_is(service: Service) -> None:
    service.upstream.script(*up.answer("One\x1b[1m two"))
    assert run(*ASK, "-q", "--url", service.url)[1] == "One\x1b[1m two\n"


@pytest.mark.parametrize(("encoding", "words"), [("ascii", "Caf? x ? +"), ("latin-1", "Café × ? +")])
def test_letters_that_the_output_lacks_do_not_end_the_answer(service: Service, encoding: str, words: str) -> None:
    service.upstream.default(*up.answer(WORDS))
    where = ("--url", service.url)
    status, written, said = shell(f'"$STUDYAI" ask "$PICTURE" x? --url {service.url}', PYTHONIOENCODING="ascii")
    assert (status, written, "tokens - " in said) == (0, "Caf? x ? +\n", True)
    with terminal(*ASK, *where, PYTHONIOENCODING=encoding) as shown:
        assert shown.end() == 0
        assert words.encode(encoding) in bytes(shown.raw)


def test_json_has_every_letter_in_any_encoding(service: Service) -> None:
    service.upstream.default(*up.answer(WORDS))
    status, written, _ = run(*ASK, "--json", "--url", service.url, settings={"PYTHONIOENCODING": "ascii"})
    assert status == 0
    assert written.isascii()
    assert json.loads(written.splitlines()[-1])["text"] == WORDS


def test_head_gets_its_line_and_the_answer_is_stopped(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("One\n"), *[up.pause(0.1), up.chunk("more\n")] * 50)
    status, written, said = shell(
        f'"$STUDYAI" ask "$PICTURE" x? -q --url {service.url} | head -1; exit "${{PIPESTATUS[0]}}"'
    )
    assert (status, written, said) == (141, "One\n", "")
    service.upstream.requests[0].closed.block()


def test_ctrl_c_that_ends_tee_too_still_stops_the_answer_and_says_its_name(service: Service, tmp_path: Path) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    line = f'set -o pipefail; "{STUDYAI}" ask "{PICTURE}" x? --url {service.url} | tee notes; echo "status $?"'
    with opened_terminal([tool("bash"), "-c", f"cd {tmp_path}; trap : INT; {line}"], {}) as shown:
        shown.until("Some")
        shown.press(b"\x03")
        shown.until("status")
        assert "Stopped. What was written: studyai resume" in shown.text
        assert "status 130" in shown.text
    service.upstream.requests[0].closed.block()


def test_ctrl_c_while_it_starts_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    status, written, said = run(*ASK, settings={"PYTHONPATH": str(tmp_path)})
    assert (status, written, said) == (130, "", "")


@pytest.mark.parametrize(
    ("sink", "sentence"), [("/dev/full", "No space left on device"), ("&-", "standard output is closed")]
)
def test_output_that_cannot_be_written_fails_with_a_sentence(service: Service, sink: str, sentence: str) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    status, _, said = shell(f'"$STUDYAI" ask "$PICTURE" x? -q --url {service.url} >{sink}')
    assert (status, said) == (1, f"studyai: {sentence}\n")
    for request in service.upstream.requests:
        request.closed.block()


def test_closed_standard_error_takes_nothing_from_the_answer(service: Service) -> None:
    assert shell(f'"$STUDYAI" ask "$PICTURE" x? --url {service.url} 2>&-')[:2] == (0, "Hello there.\n")


@pytest.mark.parametrize(
    ("source", "status", "sentence"),
    [
        ("</dev/null", 1, "The picture is empty. (IMAGE_UNREADABLE)"),
        ("</etc/passwd", 1, "The picture is no JPEG, PNG, WebP or GIF. (IMAGE_UNREADABLE)"),
        ("</dev/zero", 1, "The picture has more than 3 MiB: scale the picture down. (PAYLOAD_TOO_LARGE)"),
        ("<&-", 2, "Pipe a picture into standard input."),
    ],
)
def test_standard_input_that_is_no_picture(source: str, status: int, sentence: str) -> None:
    ended, written, said = shell(f'"$STUDYAI" ask - x? --url http://127.0.0.1:9 {source}')
    assert (ended, written) == (status, "")
    assert sentence in said

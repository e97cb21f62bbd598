"""The command on terminals and in shells of every kind: odd ones, poor ones, and ones that go away."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyte
import pytest
from rich.console import Console

from studyai_client.cli import rendering
from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.clients.terminal import COLUMNS, LINES, STUDYAI, environment, opened_terminal, run, started, terminal
from tests.end_to_end.conftest import WORKSHEET, tool
from tests.gateway.tokens import SECRET
from tests.processes import free_port, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Service

PICTURE = str(WORKSHEET)
ASK = ("ask", PICTURE, "What is x?")
ESCAPE = b"\x1b"
BLOCKS = 20
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


class InterruptedConsole(Console):
    """A terminal that is written to slowly: whoever moves something may come between what is told to it."""

    def print(self, *objects: object, **style: Any) -> None:
        threading.Event().wait(0.01)  # several ticks of what moves
        super().print(*objects, **style)


def test_block_and_what_moves_below_it_never_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_PER_SECOND", 1000)
    written = io.StringIO()
    console = InterruptedConsole(file=written, force_terminal=True, width=COLUMNS, height=LINES)
    shown = rendering.MarkdownStream(console, gap=False)
    for number in range(BLOCKS):
        shown.feed(f"    {number}/0\n    {number}/1\n    {number}/2")
        shown.feed(f"\n\nend{number}\n\n")
    shown.finish()
    seen = re.findall(r"\d+/\d+|end\d+", text_of(written.getvalue()))
    assert seen == [words for n in range(BLOCKS) for words in (f"{n}/0", f"{n}/1", f"{n}/2", f"end{n}")]


def text_of(written: str) -> str:
    """What a terminal has on its screen, and above it, after this was written."""
    screen = pyte.HistoryScreen(COLUMNS, LINES, history=10_000, ratio=1)
    pyte.Stream(screen).feed(written.replace("\n", "\r\n"))
    above = ["".join(line[column].data for column in range(COLUMNS)) for line in screen.history.top]
    return "\n".join(line.rstrip() for line in [*above, *screen.display])


def test_cut_is_told_between_the_lines_of_an_answer_that_goes_on(service: Service) -> None:
    gates = [up.Signal(), up.Signal()]
    service.upstream.script(up.stream_headers(), up.gated(gates, ["First.\n\nSec", "ond.\n"]), up.finish(), up.done())
    with (
        running_proxy(service.gateway.port) as proxy,
        terminal(*ASK, "--url", f"http://127.0.0.1:{proxy.port}") as shown,
    ):
        gates[0].set()
        shown.until("Sec")
        proxy.cut()
        shown.until("trying again")
        gates[1].set()
        assert shown.end() == 0
        lines = [line for line in shown.text.split("\n") if line and "trying again" not in line]
    assert lines[1:-1] == ["First.", "Second."]


def test_terminal_that_becomes_narrower_gets_lines_that_fit(service: Service) -> None:
    gates = [up.Signal(), up.Signal()]
    long = "word " * 30
    service.upstream.script(up.stream_headers(), up.gated(gates, ["First.\n\nS", f"econd.\n\n{long}"]), up.finish())
    with terminal(*ASK, "--url", service.url, COLUMNS="", LINES="") as shown:
        gates[0].set()
        shown.until("S")
        shown.resize(30)
        gates[1].set()
        assert shown.end() == 0
        assert shown.text.count("Second.") == 1
        lines = [line for line in shown.text.split("\n") if line.startswith("word")]
    assert max(map(len, lines)) <= 30
    assert " ".join(lines).split() == ["word"] * 30


def test_what_looks_like_html_is_not_left_out(service: Service) -> None:
    text = "A List<String>, with `#`include <list> and x<y>z.\n\n<b>\nNext.\n</b>\n\n| a |\n|---|\n| p<q>r |\n\nEnd.\n"
    service.upstream.script(*up.answer(*re.findall(r"\S+\s*", text)))
    with terminal(*ASK, "--url", service.url) as shown:
        assert shown.end() == 0
        for words in ("A List<String>, with #include <list> and x<y>z.", "<b> Next. </b>", "p<q>r"):
            assert words in shown.text


def test_dumb_terminal_gets_plain_text(service: Service) -> None:
    service.upstream.script(*up.answer("We **subtract** 7."))
    with terminal(*ASK, "--url", service.url, TERM="dumb") as shown:
        assert shown.end() == 0
        assert "We **subtract** 7." in shown.text
        assert ESCAPE not in shown.raw


def test_terminal_without_colours_gets_none(service: Service) -> None:
    service.upstream.script(*up.answer("We `subtract` 7.\n\n1. one\n"))
    with terminal(*ASK, "--url", service.url, NO_COLOR="1") as shown:
        assert shown.end() == 0
        assert not re.search(rb"\x1b\[[\d;]*\b(3[0-7]|38|4[0-7]|48|9[0-7])\b[\d;]*m", shown.raw)


@pytest.mark.parametrize("style", [[], ["--plain"]], ids=["rendered", "plain"])
def test_answer_gives_the_terminal_no_orders(service: Service, style: list[str]) -> None:
    """Not to take another title, to fill the clipboard, or to write over what was written."""
    service.upstream.script(*up.answer("One \x1b]0;title\x07two \x1b[2J", "\x9b2Jthree\r", "four\x08.\tfive\n"))
    with terminal(*ASK, *style, "--url", service.url) as shown:
        assert shown.end() == 0
        assert re.search(r"One .*two .*three.*four.*five", shown.text)
    orders = re.sub(rb"\x1b\[[\d;?]*[A-HKJhlm]|\r\n|\r(?=\x1b)", b"", bytes(shown.raw))
    assert b"\x1b[2J" not in shown.raw
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", orders)


def test_failure_gives_the_terminal_no_orders(service: Service) -> None:
    told = {
        "success": False,
        "code": "INTERNAL\x1b]0;b",
        "error": "No\x1b]0;a",
        "retryable": False,
        "request_id": "\x07",
    }
    service.upstream.default(up.reply(400, told))
    with terminal(*ASK, "--url", service.upstream.base_url.removesuffix("/v1")) as shown:
        assert shown.end() == 1
        assert "studyai: No" in shown.text
        assert b"\x1b]" not in shown.raw
        assert b"\x07" not in shown.raw


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


def test_ctrl_c_that_cannot_stop_the_answer_does_not_say_that_it_has(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with (
        running_gateway_process(service.engine) as gateway,
        terminal(*ASK, "--url", f"http://127.0.0.1:{gateway.port}") as shown,
    ):
        shown.until("Some")
        gateway.stop(signal.SIGKILL)
        shown.until("trying again")
        shown.press(b"\x03")
        assert shown.end() == 130
        assert "Stopped" not in shown.text
        assert "Some" in shown.text
        named = re.search(r"to stop it: studyai stop (\w{32})", shown.text.replace("\n", ""))
    assert named
    assert run("stop", named[1], "--url", service.url) == (0, "", "Stopped.\n")
    service.upstream.requests[0].closed.block()


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_ctrl_c_while_nobody_is_there_waits_for_nobody(mode: list[str]) -> None:
    with terminal(*ASK, *mode, "--url", "http://127.0.0.1:9") as shown:
        shown.until("trying again")
        shown.press(b"\x03")
        assert shown.end() == 130
        assert "Traceback" not in shown.text


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


def test_picture_from_a_terminal_is_refused() -> None:
    with terminal("ask", "-", "x?", "--url", "http://127.0.0.1:9") as shown:
        assert shown.end() == 2
        assert "Pipe a picture into standard input." in shown.text


@pytest.mark.parametrize("command", ["ask", "doctor"])
def test_address_that_is_none_is_a_wrong_command_line(command: str) -> None:
    arguments = ASK if command == "ask" else (command,)
    status, written, said = run(*arguments, "--url", "localhost:3000")
    assert (status, written) == (2, "")
    assert "http://host:port" in said


def test_missing_files_are_named_in_a_line(tmp_path: Path) -> None:
    assert run("ask", "page.jpg", "x?", cwd=tmp_path) == (2, "", "studyai: page.jpg: No such file or directory\n")
    assert run("ask", ".", "x?", cwd=tmp_path) == (2, "", "studyai: .: Is a directory\n")
    status, _, said = run(*ASK, "--url", "https://127.0.0.1:9", "--ca-file", "ca.pem", cwd=tmp_path)
    assert (status, "ca.pem cannot be" in said) == (2, True)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_file_without_certificates_is_named(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "ca.pem").write_text("not one")
    status, written, said = run(*ASK, "--url", f"{scheme}://127.0.0.1:9", "--ca-file", "ca.pem", cwd=tmp_path)
    assert (status, written) == (2, "")
    assert "ca.pem holds no certificate in PEM." in re.sub(r"[\s│]+", " ", said)


def test_socks_proxy_is_told_with_what_to_install() -> None:
    status, written, said = run(*ASK, settings={"ALL_PROXY": "socks5://127.0.0.1:9"})
    assert (status, written) == (1, "")
    assert re.fullmatch("studyai: .*SOCKS proxy.* 'socksio' .*\n", said)


def test_engine_that_forgot_the_answer_when_it_restarted_is_told_with_what_to_do(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    port = free_port()
    with ExitStack() as engines:
        first = engines.enter_context(running_engine_process(service.upstream.base_url, port))
        with started(*ASK, "--grpc", "--engine", f"127.0.0.1:{port}") as process:
            assert process.stdout
            assert process.stdout.read(4) == "Some"
            first.stop(signal.SIGKILL)
            engines.enter_context(running_engine_process(service.upstream.base_url, port))
            written, said = process.communicate(timeout=20)
    assert (process.returncode, written) == (1, "\n")
    assert "(ANSWER_NOT_FOUND)" in said
    assert said.endswith("when it restarts: ask again.\n")
    assert len(service.upstream.requests) == 1


def test_engine_that_is_down_and_a_wrong_token_are_told_with_what_to_do(service: Service) -> None:
    port = free_port()
    with running_engine_process(service.upstream.base_url, port) as engine, running_gateway_process(engine) as gateway:
        engine.stop()
        status, written, said = run(*ASK, "--url", f"http://127.0.0.1:{gateway.port}", "--timeout", "2")
    assert (status, written) == (1, "")
    assert re.search(
        r"^studyai: .+ \(ENGINE_UNAVAILABLE, request \w+\)\n`studyai doctor` finds out why\.\n\Z", said, re.M
    )
    with running_gateway_process(service.engine, AUTH_JWT_KEY=SECRET) as gateway:
        status, written, said = run(
            *ASK, "--url", f"http://127.0.0.1:{gateway.port}", settings={"STUDYAI_TOKEN": "wrong"}
        )
    assert (status, written) == (1, "")
    assert "(UNAUTHENTICATED, request " in said
    assert said.endswith("Set STUDYAI_TOKEN to a bearer token, or SERVICE_TOKEN for --grpc.\n")
    assert "wrong" not in said


def test_whole_answer_can_be_asked_on_about(service: Service) -> None:
    _, _, said = run(*ASK, "--no-stream", "--url", service.url)
    named = re.search(r"session (\w{32})", said)
    assert named
    assert run("ask", "And y?", "--session", named[1], "--url", service.url)[:2] == (0, "Hello there.\n")


def test_session_without_a_picture_says_how_to_give_one(service: Service) -> None:
    status, _, said = run("ask", "And y?", "--session", "nobodys", "--url", service.url)
    assert status == 1
    assert said.endswith("The session has no picture yet: studyai ask PICTURE QUESTION --session ID\n")

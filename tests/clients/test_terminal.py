"""The command on terminals of every kind: slow, narrow, poor ones, and what an answer may do to them."""

from __future__ import annotations

import io
import re
import signal
import threading
from typing import TYPE_CHECKING, Any

import pyte
import pytest
from rich.console import Console

from studyai_client.cli import rendering
from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.clients.terminal import ASK, COLUMNS, LINES, run, terminal
from tests.processes import running_gateway_process

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service

ESCAPE = b"\x1b"
BLOCKS = 20


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


def test_picture_from_a_terminal_is_refused() -> None:
    with terminal("ask", "-", "x?", "--url", "http://127.0.0.1:9") as shown:
        assert shown.end() == 2
        assert "Pipe a picture into standard input." in shown.text

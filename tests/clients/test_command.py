"""The command, run as a user runs it."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.clients.terminal import ASK, PICTURE, run, started, terminal
from tests.end_to_end.conftest import WORKSHEET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Service

DELTAS = ["We **subtract** 7", ":\n\n", "1. one\n", "2. two\n", "\nSo `x` is", " **6**."]
TEXT = "".join(DELTAS)


def where(service: Service, scheme: str = "http") -> list[str]:
    if scheme == "http":
        return ["--url", service.url]
    return ["--engine", f"127.0.0.1:{service.engine.port}"]


def gated_answer(service: Service) -> list[up.Signal]:
    gates = [up.Signal() for _ in DELTAS]
    service.upstream.script(up.stream_headers(), up.gated(gates, DELTAS), up.finish(), up.usage(30, 20), up.done())
    return gates


def answer_id_in(said: str) -> str:
    found = re.search(r"[0-9a-f]{32}", said)
    assert found
    return found[0]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_answer_is_written_to_a_pipe_piece_by_piece(service: Service, scheme: str) -> None:
    gates = gated_answer(service)
    with started("ask", PICTURE, "What is x?", *where(service, scheme)) as process:
        assert process.stdout
        assert process.stderr
        for gate, delta in zip(gates, DELTAS, strict=True):
            gate.set()
            assert process.stdout.read(len(delta)) == delta
        assert process.stdout.read() == "\n"
        assert process.wait(5) == 0
        said = process.stderr.read()
    assert re.fullmatch(r"gpt-5.4-mini · answer \w{32}\n50 tokens · \d+\.\d s · session \w{32}\n", said)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_whole_answer_from_a_piped_picture(service: Service, scheme: str) -> None:
    status, written, said = run(
        "ask", "-", "What is x?", "--no-stream", "-q", *where(service, scheme), stdin=WORKSHEET.read_bytes()
    )
    assert (status, written, said) == (0, "Hello there.\n", "")
    assert PICTURE not in service.upstream.requests[0].body.decode()


def test_events_are_lines_of_json(service: Service) -> None:
    status, written, said = run("ask", PICTURE, "What is x?", "--json", "--session", "s-1", *where(service))
    events = [json.loads(line) for line in written.splitlines()]
    assert (events[0]["type"], events[-1]["type"]) == ("started", "finished")
    assert {event["type"] for event in events[1:-1]} == {"delta"}
    assert events[0]["session_id"] == "s-1"
    assert "".join(event["text"] for event in events[1:-1]) == events[-1]["text"] == "Hello there."
    assert (events[-1]["finish_reason"], events[-1]["usage"]["total_tokens"]) == ("stop", 50)
    assert (status, said) == (0, "")


def test_failure_is_a_line_of_json_and_a_sentence(service: Service) -> None:
    service.upstream.default(up.refusal(401))
    status, written, said = run("ask", PICTURE, "What is x?", "--json", *where(service))
    assert status == 1
    assert json.loads(written.splitlines()[-1])["code"] == "UPSTREAM_AUTH"
    assert "refused this service's credentials" in said
    assert "studyai doctor" in said


def test_follow_up_needs_a_session_and_no_picture(service: Service) -> None:
    assert run("ask", PICTURE, "What is x?", "--session", "chat", "--student", "mia", *where(service))[0] == 0
    status, written, _ = run("ask", "And y?", "--session", "chat", "--student", "mia", *where(service))
    assert (status, written) == (0, "Hello there.\n")
    assert "And y?" in service.upstream.requests[1].body.decode()


@pytest.mark.parametrize("question", ["-3x=9", "-x = 3, or not?", "-", "- a\n- b"])
def test_question_that_begins_with_a_minus_is_one(service: Service, question: str) -> None:
    for number, words in enumerate([[PICTURE, question, "-q"], ["-q", PICTURE, "--", question]]):
        assert run("ask", *where(service), *words) == (0, "Hello there.\n", "")
        assert json.dumps(question)[1:-1] in service.upstream.requests[number].body.decode()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "page.jpg"], "A question is missing: studyai ask PICTURE QUESTION"),
        (["ask", "no picture at all."], "A picture is missing: studyai ask PICTURE QUESTION, or --session ID"),
        (["ask", "A long question. " * 30], "A picture is missing"),
        (["ask", "missing.jpg", "What?"], "missing.jpg: No such file"),
        (["ask", PICTURE, "  "], "1 to 4,000 characters"),
        (["ask", PICTURE, "What?", "--url", "nowhere"], "http://host:port"),
        (["resume", "../healthz"], "answer_id"),
        (["ask", "--nonsense"], "No such option"),
        ([], "Usage"),
    ],
)
def test_wrong_command_line_is_said_with_status_2(arguments: list[str], words: str) -> None:
    status, written, said = run(*arguments)
    assert status == 2
    assert words in re.sub(r"[\s│]+", " ", said + written)
    assert "Traceback" not in said


def test_unreadable_picture_and_absent_service_fail_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("no picture")
    status, _, said = run("ask", "page.jpg", "What?", cwd=tmp_path)
    assert (status, said) == (1, "studyai: The picture is no JPEG, PNG, WebP or GIF. (IMAGE_UNREADABLE)\n")
    status, _, said = run("ask", PICTURE, "What?", "--url", "http://127.0.0.1:9", "--timeout", "0.5")
    assert status == 1
    assert "studyai: 127.0.0.1:9 cannot be reached: connection refused. (CONNECTION_FAILED)" in said
    assert said.endswith("`studyai doctor` finds out why.\n")


def test_ctrl_c_stops_an_answer_that_is_waited_for_as_a_whole(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with started("ask", PICTURE, "What is x?", "--no-stream", *where(service)) as process:
        service.upstream.block_request()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stderr
        assert "Stopped. What was written: studyai resume" in process.stderr.read()
    service.upstream.requests[0].closed.block()
    assert len(service.upstream.requests) == 1


def test_ctrl_c_stops_the_answer_and_what_was_written_can_be_read_again(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with started("ask", PICTURE, "What is x?", *where(service)) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(4) == "Some"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        said = process.stderr.read()
    service.upstream.requests[0].closed.block()
    answer_id = answer_id_in(said)
    assert said.endswith(f"Stopped. What was written: studyai resume {answer_id}\n")
    status, written, said = run("resume", answer_id, *where(service))
    assert (status, written) == (0, "Some\n")
    assert "stopped" in said


def test_ctrl_c_before_the_first_word_speaks_of_nothing_written(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.silence())
    with started(*ASK, *where(service)) as process:
        assert process.stderr
        process.stderr.readline()
        asked = service.upstream.block_request()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        # What was being printed just then may be printed twice.
        assert process.stderr.read().endswith("Stopped, before anything was written.\n")
    asked.closed.block()


def test_ctrl_c_leaves_an_answer_that_is_only_watched(service: Service) -> None:
    more = up.Signal()
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.gate(more), up.chunk(" more"), up.finish())
    with started("ask", PICTURE, "What is x?", *where(service)) as asking:
        assert asking.stderr
        answer_id = answer_id_in(asking.stderr.readline())
        with started("resume", answer_id, *where(service, "grpc")) as watching:
            assert watching.stdout
            assert watching.stdout.read(4) == "Some"
            watching.send_signal(signal.SIGINT)
            assert watching.wait(5) == 130
        more.set()
        assert asking.communicate(timeout=5)[0] == "Some more\n"


def test_stop_ends_it_for_who_reads_it(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with started("ask", PICTURE, "What is x?", *where(service)) as asking:
        assert asking.stderr
        answer_id = answer_id_in(asking.stderr.readline())
        assert run("stop", answer_id, *where(service)) == (0, "", "Stopped.\n")
        written, said = asking.communicate(timeout=5)
    assert (asking.returncode, written) == (0, "Some\n")
    assert " s · stopped" in said
    assert run("stop", "0" * 32, *where(service, "grpc"))[0] == 1


def test_closed_pipe_ends_it_quietly_and_stops_the_answer(service: Service) -> None:
    more = up.Signal()
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.gate(more), up.chunk("more"), up.silence())
    with started("ask", PICTURE, "What is x?", "-q", *where(service)) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(4) == "Some"
        process.stdout.close()
        more.set()
        assert process.wait(5) == 141
        assert process.stderr.read() == ""
    service.upstream.requests[0].closed.block()


def test_connection_that_breaks_is_told_and_the_answer_is_whole(service: Service) -> None:
    gates = gated_answer(service)
    with (
        running_proxy(service.gateway.port) as proxy,
        started("ask", PICTURE, "What is x?", "--url", f"http://127.0.0.1:{proxy.port}") as process,
    ):
        assert process.stdout
        gates[0].set()
        written = process.stdout.read(len(DELTAS[0]))
        proxy.cut()
        for gate in gates:
            gate.set()
        rest, said = process.communicate(timeout=10)
    assert written + rest == TEXT + "\n"
    assert "The connection to the service broke; trying again" in said
    assert len(service.upstream.requests) == 1


def test_terminal_shows_rendered_markdown_that_grows(service: Service) -> None:
    gates = gated_answer(service)
    with terminal("ask", PICTURE, "What is x?", *where(service)) as shown:
        shown.until("answer")
        for gate, words in zip(gates, ["We subtract 7", "7:", "1 one", "2 two", "So x is", "So x is 6."], strict=True):
            gate.set()
            shown.until(words)
        shown.until("50 tokens")
        assert shown.end() == 0
        assert shown.is_bold("subtract")
        lines = [line for line in shown.text.split("\n") if line]
    assert [line.strip() for line in lines[1:-1]] == ["We subtract 7:", "1 one", "2 two", "So x is 6."]


def test_terminal_loses_and_repeats_no_line_of_an_answer_longer_than_its_screen(service: Service) -> None:
    code = "\n".join(f"line{number} = {number}" for number in range(60))
    items = "\n".join(f"{number}. item{number}" for number in range(1, 41))
    text = f"# Title\n\nFirst.\n\n```python\n{code}\n```\n\n{items}\n\nLast words.\n"
    words = re.findall(r"\S+\s*", text)
    service.upstream.script(*up.answer(*words))
    with terminal("ask", PICTURE, "What is x?", *where(service)) as shown:
        assert shown.end() == 0
        seen = re.findall(r"Title|First|line\d+|item\d+|Last", shown.text)
    expected = ["Title", "First", *(f"line{n}" for n in range(60)), *(f"item{n}" for n in range(1, 41)), "Last"]
    assert seen == expected


def test_ctrl_c_on_a_terminal_keeps_what_was_written(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some **words"), up.silence())
    with terminal("ask", PICTURE, "What is x?", *where(service)) as shown:
        shown.until("Some words")
        shown.press(b"\x03")
        assert shown.end() == 130
        assert "Some words" in shown.text
        assert "Stopped. What was written: studyai resume" in shown.text
        assert "Traceback" not in shown.text
        assert not shown.screen.cursor.hidden
    service.upstream.requests[0].closed.block()


@pytest.mark.parametrize("command", [(), ("ask",), ("doctor",)])
def test_help_fits_a_narrow_terminal(command: tuple[str, ...]) -> None:
    status, written, said = run(*command, "--help")
    assert (status, said) == (0, "")
    assert "Usage: studyai" in written
    assert max(map(len, written.splitlines())) <= 80
    assert "[default: (" not in written
    assert "doctor" not in command or "--grpc" not in written


def test_whole_answer_can_be_asked_on_about(service: Service) -> None:
    _, _, said = run(*ASK, "--no-stream", "--url", service.url)
    named = re.search(r"session (\w{32})", said)
    assert named
    assert run("ask", "And y?", "--session", named[1], "--url", service.url)[:2] == (0, "Hello there.\n")

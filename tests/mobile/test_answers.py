"""What an app on a phone gets: the whole answer as it is written, whatever breaks, and the model asked once."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.mobile.conftest import held
from tests.processes import free_port, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service
    from tests.mobile.conftest import Client, Told

DELTAS = ["One", " two\n", " \u2028", " 四 👩‍🏫", " e", "\u0301", " \\frac{1}{2}", ' "five".\r\n']
"""With line ends that Unicode knows and the wire does not, and a letter that comes in two pieces."""
TEXT = "".join(DELTAS)
IN_THE_HEAD = 200
"""So many bytes of a reply end in its headers."""


def gated_answer(service: Service, deltas: list[str] = DELTAS) -> list[up.Signal]:
    gates = [up.Signal() for _ in deltas]
    service.upstream.script(up.stream_headers(), up.gated(gates, deltas), up.finish(), up.usage(30, 20), up.done())
    return gates


def deltas(told: list[Told]) -> list[str]:
    return [one["delta"] for one in told if one["what"] == "text"]


def test_each_piece_is_there_when_it_is_written(service: Service, client: Client) -> None:
    gates = gated_answer(service)
    remaining = iter(gates)
    with client.doing("ask", service.url, session_id="s-1") as driver:
        told = []
        for one in driver:
            told.append(one)
            if gate := next(remaining, None):
                gate.set()
    assert deltas(told) == DELTAS
    assert [one["all"] for one in told if one["what"] == "text"][-1] == TEXT
    assert (told[0]["what"], told[0]["session_id"]) == ("started", "s-1")
    assert told[-1] == {"what": "finished", "text": TEXT, "reason": "stop", "tokens": 50}


def test_connection_cut_after_every_piece_loses_nothing_and_asks_once(service: Service, client: Client) -> None:
    remaining, told = iter(gated_answer(service)), list[dict[str, object]]()
    with (
        running_proxy(service.gateway.port) as proxy,
        client.doing("ask", f"http://127.0.0.1:{proxy.port}", student_id="mia-7") as driver,
    ):
        for one in driver:
            told.append(one)
            proxy.cut()
            if gate := next(remaining, None):
                gate.set()
        assert proxy.connections >= len(DELTAS)
    assert deltas(told) == DELTAS
    assert told[-1]["text"] == TEXT
    assert len(service.upstream.requests) == 1


@pytest.mark.parametrize("limit", [0, IN_THE_HEAD, *range(400, 1600, 200)])
def test_reply_cut_at_any_byte_loses_nothing(service: Service, client: Client, limit: int) -> None:
    if client.name == "swift" and limit == IN_THE_HEAD:
        pytest.skip("Foundation for Linux ends the process: “Transfer completed, but there's no response.”")
    service.upstream.default(*up.answer(*DELTAS))
    with running_proxy(service.gateway.port, lambda number, _: None if number else limit) as proxy:
        told = client.done("ask", f"http://127.0.0.1:{proxy.port}")
    assert [one["what"] for one in told].count("started") == 1
    assert ("".join(deltas(told)), told[-1]["text"]) == (TEXT, TEXT)
    assert len(service.upstream.requests) == 1


def test_connection_that_falls_silent_is_left_for_another(service: Service, client: Client) -> None:
    came_back = held(service, "Hello", ".")

    def passed(number: int, _: bytes) -> None:
        if number == 1:
            came_back.set()

    with running_gateway_process(service.engine) as gateway, running_proxy(gateway.port, passed) as proxy:
        told = client.done("ask", f"http://127.0.0.1:{proxy.port}", silence_ms=1000)
        assert proxy.connections == 2
    assert told[-1]["text"] == "Hello."
    assert len(service.upstream.requests) == 1


def test_heartbeats_keep_a_connection_that_brings_nothing_else(service: Service, client: Client) -> None:
    service.upstream.script(
        up.stream_headers(), up.chunk("Hello"), up.pause(2.5), up.chunk("."), up.finish(), up.done()
    )
    with running_proxy(service.gateway.port) as proxy:
        told = client.done("ask", f"http://127.0.0.1:{proxy.port}", silence_ms=1000)
        assert proxy.connections == 1
    assert told[-1]["text"] == "Hello."


def test_engine_that_has_lost_the_answer_is_asked_for_another(service: Service, client: Client) -> None:
    gates, port, told = iter(gated_answer(service)[:2]), free_port(), list[dict[str, object]]()
    with ExitStack() as running:
        first = running.enter_context(running_engine_process(service.upstream.base_url, port))
        gateway = running.enter_context(running_gateway_process(first))
        asking = client.doing("ask", f"http://127.0.0.1:{gateway.port}", longest_delay_ms=8000)
        for one in running.enter_context(asking):
            told.append(one)
            if one.get("delta") == DELTAS[1]:
                first.stop(signal.SIGKILL)
                running.enter_context(running_engine_process(service.upstream.base_url, port))
            if gate := next(gates, None):
                gate.set()
    assert len({one["answer_id"] for one in told if one["what"] == "started"}) == 2
    assert told[-1]["text"] == "Hello there."
    assert len(service.upstream.requests) == 2


def test_student_who_leaves_stops_the_model(service: Service, client: Client) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("That is enough"), up.silence())
    with client.doing("ask", service.url, student_id="mia-7", leave_at="enough") as driver:
        assert [one["what"] for one in driver][-1] == "left"
        # Sooner than in RESUME_WINDOW_SECONDS: the service was told.
        service.upstream.block_request(0).closed.block()


def test_who_leaves_an_answer_that_is_read_again_does_not_stop_it(service: Service, client: Client) -> None:
    more = held(service, "Half", " and half.")
    with client.doing("ask", service.url) as asking:
        events = iter(asking)
        answer = next(events)["answer_id"]
        with client.doing("resume", service.url, answer_id=answer, leave_at="Half") as leaving:
            assert [one["what"] for one in leaving] == ["started", "text", "left"]
            # It has had the time to stop the answer when another has read and left as well.
            client.done("resume", service.url, answer_id=answer, leave_at="Half")
        more.set()
        assert list(events)[-1]["text"] == "Half and half."
    again = client.done("resume", service.url, answer_id=answer)
    assert ("".join(deltas(again)), again[-1]["what"]) == ("Half and half.", "finished")
    assert len(service.upstream.requests) == 1


def test_answer_that_is_stopped_ends_with_what_there_is(service: Service, client: Client) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Half"), up.silence())
    with client.doing("ask", service.url) as driver:
        events = iter(driver)
        answer = next(events)["answer_id"]
        next(events)
        assert client.done("stop", service.url, answer_id=answer) == []
        (end,) = events
    assert (end["text"], end["reason"]) == ("Half", "stopped")


def test_example_of_the_guide_shows_the_answer(service: Service, client: Client) -> None:
    service.upstream.script(up.answer("Hello", " there."))
    told = client.done("show", service.url)
    assert (told[0], told[-2]["text"]) == ({"what": "shown", "text": ""}, "Hello there.")
    assert told[-1] == {"what": "kept", "text": "Hello there."}

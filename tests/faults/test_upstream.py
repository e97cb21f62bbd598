"""Whatever the model's server does, both routes tell the same one true ending, and nothing of it stays behind."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from studyai.v1 import chat_pb2

from tests import upstream as up
from tests.engine.test_upstream_answers import ENDS_BADLY, ENDS_WELL, HI, OPEN, Case
from tests.faults.invariants import invariants
from tests.upstream import events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.faults.service import Service
    from tests.processes import Process
    from tests.upstream import Connection

FINISH_REASONS = {
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
MEBIBYTE = 2**20
MEMORY_BYTES = 16 * MEBIBYTE


async def trickle(connection: Connection) -> None:
    """Text for ever, each in time."""
    while True:
        await connection.write_body(events.content_event("."))
        await up.pause(0.3)(connection)


def slowly(seconds: float) -> Any:
    """A byte, and another after so many seconds, for ever: an event that never ends."""

    async def step(connection: Connection) -> None:
        await connection.write_body(b"data: ")
        while True:
            await connection.write_body(b"x")
            await up.pause(seconds)(connection)

    return step


async def long_line(connection: Connection) -> None:
    """64 MB without an end of line."""
    await connection.write_body(b"data: ")
    for _ in range(64):
        if not connection.lost.is_set():
            await connection.write_body(b"x" * MEBIBYTE)
    await up.silence()(connection)


def compressed(times: int) -> list[Any]:
    """64 MB of one event's data, compressed so many times over."""
    data = b"data: " + b"x" * 64 * MEBIBYTE
    for _ in range(times):
        data = gzip.compress(data)
    return [up.stream_headers(headers={"Content-Encoding": ", ".join(["gzip"] * times)}), up.raw(data)]


BADLY = ENDS_BADLY | {
    "too slow in all": Case([OPEN, trickle], "." * 100, "DEADLINE_EXCEEDED"),
    "1 byte in 5 s, for ever": Case([OPEN, slowly(5)], "", "UPSTREAM_TIMEOUT"),
    "a byte now and then, for ever": Case([*HI, slowly(0.05)], "Hi there", "UPSTREAM_TIMEOUT"),
    "a line of 64 MB": Case([OPEN, long_line], "", "UPSTREAM_PROTOCOL"),
    "a line of 64 MB after text": Case([*HI, long_line], "Hi there", "UPSTREAM_PROTOCOL"),
    "a gzip bomb": Case(compressed(1), "", "UPSTREAM_PROTOCOL"),
    "a gzip bomb in a gzip bomb": Case(compressed(2), "", "UPSTREAM_PROTOCOL"),
}
HUGE = [name for name in BADLY if "64 MB" in name or "bomb" in name]


@pytest.mark.parametrize("case", ENDS_WELL.values(), ids=ENDS_WELL)
async def test_whole_answer_arrives_whole_on_both_routes(service: Service, case: Case) -> None:
    async with invariants(service, case.text) as checked:
        service.upstream.default(*case.steps)
        streamed, whole = await checked.ask_both()
    assert (streamed.status, whole.status, streamed.code, whole.code) == (200, 200, "", "")
    assert (streamed.text, whole.reply["response"]) == (case.text, case.text)
    for ending in (streamed.ending, whole.ending):
        assert ending is not None
        assert ending["finish_reason"] == FINISH_REASONS[chat_pb2.FinishReason.ValueType(case.finish_reason)]
        assert ending["usage"].get("estimated", False) is (case.total_tokens is None)


@contextmanager
def peak(process: Process) -> Iterator[list[int]]:
    """Afterwards: by how many bytes the process has grown at most."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    before = resident(process)
    growth: list[int] = []
    yield growth
    growth.append(resident(process) - before)


def resident(process: Process) -> int:
    """The most memory that a process has had since it was last asked to forget it, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("case", BADLY.values(), ids=BADLY)
async def test_failure_is_told_as_what_it_is_on_both_routes(service: Service, case: Case) -> None:
    async with invariants(service, case.text) as checked:
        service.upstream.default(*case.steps)
        streamed, whole = await checked.ask_both()
    assert (streamed.status, streamed.whole) == (200, True)
    assert streamed.text == case.text or (case.text.startswith("..") and streamed.text)
    assert whole.status >= 400
    assert (streamed.code, whole.code) == (case.code, case.code)
    assert (streamed.events[-1]["partial"], whole.reply["success"]) == (bool(case.text), False)


@pytest.mark.parametrize("name", HUGE)
async def test_huge_reply_costs_the_engine_little_memory(service: Service, name: str) -> None:
    with peak(service.engine) as growth:
        async with invariants(service, BADLY[name].text) as checked:
            service.upstream.default(*BADLY[name].steps)
            await checked.ask_both()
    assert growth[0] < MEMORY_BYTES


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_elsewhere_is_not_followed(service: Service, status: int) -> None:
    async with up.Upstream() as elsewhere, invariants(service) as checked:
        location = f"{elsewhere.base_url}/chat/completions"
        service.upstream.default(up.reply(status, headers={"Location": location}))
        streamed, whole = await checked.ask_both()
        assert (streamed.code, whole.code) == ("UPSTREAM_PROTOCOL", "UPSTREAM_PROTOCOL")
        assert elsewhere.requests == []

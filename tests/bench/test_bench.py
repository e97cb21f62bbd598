"""The benchmark measures what it says: with real processes and few tokens, and its report on figures made up here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import report
from bench.load import Asking, run
from bench.subjects import Bench
from bench.text import FIRST, text, tokens
from bench.workloads import SMALL, Workloads
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workloads import Figures


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as running:
        yield running


async def test_every_token_is_timed_counted_and_compared(bench: Bench) -> None:
    with bench.direct() as direct:
        (stream,) = await run(direct.asking(5, 100, SMALL), 1)
    assert stream.fault == ""
    assert stream.events == 5
    assert 0 < stream.first_token < stream.total


class Mistaken(Asking):
    """Expects another answer than it asks for."""

    def _prompt(self) -> str:
        return "tokens=5 rate=0"


async def test_wrong_text_a_refusal_and_nobody_are_faults(bench: Bench) -> None:
    with bench.direct() as direct:
        wrong = Mistaken(ports=direct.ports, path=direct.path, openai=True, tokens=6, rate=0, image=SMALL)
        faults = [(await run(asking, 1))[0].fault for asking in (wrong, replace(wrong, ports=(free_port(),)))]
    assert "another text" in faults[0]
    assert "no response" in faults[1]


async def test_streams_of_this_service_have_figures(bench: Bench) -> None:
    said: list[str] = []
    workloads = Workloads(bench, said.append, peers=())
    await workloads.tokens("W1", 2, 5, 100, rounds=1, peers=set())
    figures = workloads.figures["W1"]["ours"]
    assert workloads.faults == []
    assert figures["cpu_us_per_token"][0] > 0
    assert figures["failed"] == [0]
    assert any("ours" in line for line in said)


def test_shorter_answers_are_the_beginnings_of_longer_ones() -> None:
    assert tokens(10) == tokens(100)[:10]
    assert text(100).count(FIRST) == 1


def test_targets_are_held_against_medians_of_one_run() -> None:
    w1: Figures = {
        "ours": {"cpu_us_per_token": [90, 100, 400], "own_events_percent": [99]},
        "litellm": {"cpu_us_per_token": [400]},
        "two-hop": {"cpu_us_per_token": [200]},
    }
    rows = {name: (bound, reached) for name, bound, reached in report.targets({"W1": w1})}
    assert rows["W1 CPU per token, of LiteLLM's"] == (1 / 3.5, 0.25)
    assert rows["W1 CPU per token, of two-hop's"][1] == 0.5
    written = report.tables({"W1": w1})
    assert "| W1 CPU per token, of LiteLLM's | 0.286 | 0.25 | ✓ |" in written
    assert "| W1 CPU per token, of two-hop's | 0.455 | 0.5 | ✗ |" in written
    assert "| ours | 100 (90–400) | 99 | – |" in written
    assert not any("W2" in name for name in rows)


async def test_open_streams_are_measured_while_they_are_open(bench: Bench) -> None:
    workloads = Workloads(bench, lambda _: None, peers=())
    async with asyncio.timeout(60):
        await workloads.open_streams(4, set(), opened_per_second=4)
    assert workloads.figures["W3 4"]["ours"]["failed"] == [0]

"""An exception that nobody expected, wherever in the two services: told in fixed words, or a cut that can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import upstream as up
from tests.faults.broken.sitecustomize import CANARY
from tests.faults.client import FALLBACK, STREAM
from tests.faults.invariants import invariants, rested
from tests.faults.service import records, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.service import Service


@dataclass(frozen=True)
class Broken:
    """A place that breaks, when, and what a client is told."""

    place: str
    route: str = STREAM
    before: str = ""
    """The text that comes before the place breaks."""
    status: int = 200
    cut: bool = False
    answers: int = 1
    asks: str = ""
    """A field of the question that breaks the place; empty: the model's text does."""


CASES = {
    "engine, before the first event": Broken("asking", status=500, answers=0, asks="prompt"),
    "engine, before it asks, fallback": Broken("asking", FALLBACK, status=500, answers=0, asks="prompt"),
    "engine reads the first text": Broken("reading"),
    "engine reads a later text": Broken("reading", before="Hi"),
    "engine reads a later text, fallback": Broken("reading", FALLBACK, before="Hi", status=500),
    "engine notes the first text": Broken("appending"),
    "engine notes a later text": Broken("appending", before="Hi"),
    "engine sends the first text": Broken("sending"),
    "engine sends a later text": Broken("sending", before="Hi"),
    "engine sends a later text, fallback": Broken("sending", FALLBACK, before="Hi", status=500),
    "engine ends": Broken("ending", before="Hi"),
    "gateway, before the first event": Broken("starting", status=500, asks="session_id"),
    "gateway takes the first text": Broken("folding"),
    "gateway takes a later text": Broken("folding", before="Hi"),
    "gateway writes the first text": Broken("writing", cut=True),
    "gateway writes a later text": Broken("writing", before="Hi", cut=True),
    "gateway writes the end": Broken("closing", before="Hi", cut=True),
    "gateway writes the reply, fallback": Broken("replying", FALLBACK, before="Hi", status=500),
}
GATEWAYS = {"starting", "folding", "writing", "closing", "replying"}


@pytest.fixture(scope="module")
def breaking_service() -> Iterator[Service]:
    with running_service(PYTHONPATH=str(Path(__file__).parent / "broken")) as service:
        yield service


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_unexpected_exception_is_told_in_fixed_words_or_cuts(breaking_service: Service, case: Broken) -> None:
    service = await rested(breaking_service)
    trigger = f"break:{case.place}"
    question: dict[str, Any] = {case.asks: trigger} if case.asks else {}
    async with invariants(service, case.before + trigger) as checked:
        gate = up.Signal()
        last = [up.gate(gate), up.chunk(trigger), up.finish(), up.usage(30, 20), up.done()]
        service.upstream.default(up.stream_headers(), *([up.chunk(case.before)] if case.before else []), *last)
        client = await checked.client(case.route, answers=case.answers, **question).ask()
        if case.route == STREAM and not case.asks:
            await client.read_text(case.before)
            gate.set()
            told = await client.read_rest()
        else:
            gate.set()
            told = await client.read_to_end()
    assert told.status == case.status
    if case.route == STREAM:
        assert told.text in (case.before, case.before + trigger)
    if case.cut:
        assert (told.whole, told.ending) == (False, None)
    else:
        assert told.code == "INTERNAL"
        assert told.ending is not None
        assert told.ending["retryable"] is True
    if case.place in GATEWAYS:
        (ended,) = records(service.gateway, "request ended", client.request_id)
        assert ended["outcome"] == "INTERNAL"
    for said in (str(told.events), str(told.reply), service.engine.log, service.gateway.log):
        assert CANARY not in said

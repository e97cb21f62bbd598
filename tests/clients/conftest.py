"""The clients under test, all four of them behind one face, and the service they ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from studyai_client import AsyncStudyAI, Backoff, StudyAI
from tests.end_to_end.conftest import Service, started_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from studyai_client import Answer, Event
    from tests.end_to_end.conftest import Service

QUICK = Backoff(first_delay=0.02, longest_delay=1.0, attempts=20)
"""As patient as the default, in less time."""
DELTAS = ["The answer", " is\n", "x = 6", ' "six"', "\u2028", "数学 👩‍🏫", " \\frac{1}{2}"]
TEXT = "".join(DELTAS)


@pytest.fixture(scope="package")
def running_service() -> Iterator[Service]:
    with started_service() as started:
        yield started


@pytest.fixture
def service(running_service: Service) -> Service:
    """The service, with nothing asked yet."""
    running_service.upstream.forget()
    return running_service


@dataclass(frozen=True)
class Wire:
    """One of the four ways to an answer."""

    client: str
    scheme: str

    def url(self, service: Service) -> str:
        port = service.gateway.port if self.scheme == "http" else service.engine.port
        return f"{self.scheme}://127.0.0.1:{port}"

    def ask(self, url: str, *question: Any, seen: Callable[[Event], None] = lambda _: None, **options: Any) -> Answer:
        """Asks, and returns what the events add up to; `seen` is told of each as it comes."""
        if self.client == "sync":
            return _ask(url, question, seen, options)
        return asyncio.run(_ask_async(url, question, seen, options))

    def complete(self, url: str, *question: Any) -> Answer:
        """Asks without a stream."""
        if self.client == "sync":
            with StudyAI(url) as studyai:
                return studyai.complete(*question)
        return asyncio.run(_complete_async(url, question))


def _ask(url: str, question: Any, seen: Callable[[Event], None], options: Any) -> Answer:
    with StudyAI(url, **{"backoff": QUICK} | options) as studyai, studyai.ask(*question) as answer:
        for event in answer:
            seen(event)
        return answer.read()


async def _ask_async(url: str, question: Any, seen: Callable[[Event], None], options: Any) -> Answer:
    async with AsyncStudyAI(url, **{"backoff": QUICK} | options) as studyai, studyai.ask(*question) as answer:
        async for event in answer:
            # Not in the loop: it may wait for what the test does meanwhile.
            await asyncio.to_thread(seen, event)
        return await answer.read()


async def _complete_async(url: str, question: Any) -> Answer:
    async with AsyncStudyAI(url) as studyai:
        return await studyai.complete(*question)


WIRES = [Wire(client, scheme) for client in ("sync", "async") for scheme in ("http", "grpc")]


@pytest.fixture(params=WIRES, ids=lambda wire: f"{wire.client}-{wire.scheme}")
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each of the four."""
    found: Wire = request.param
    return found

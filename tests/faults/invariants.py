"""What must be true after every fault, whichever it was: one object that every case goes through.

Each client was told the truth and nothing but; each request and each answer has one outcome in the logs; the model's
connection was closed in time; nothing is left running or open; and the next students are answered.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests import upstream as up
from tests.faults.client import FALLBACK, STREAM, Client
from tests.faults.service import SETTLE_SECONDS, count, eventually, records
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.client import Told
    from tests.faults.network import Cable
    from tests.faults.service import Service
    from tests.upstream import UpstreamRequest

CLOSED_WITHIN_SECONDS = 0.25
HEALTHY = "Hello there."


class Case:
    """The clients of one case, and what is expected of them."""

    def __init__(self, service: Service, truth: str, cable: Cable | None = None) -> None:
        self.service = service
        self.clients: list[Client] = []
        self.lines: dict[str, tuple[int, int | None]] = {}
        self._truth = truth
        self._cable = cable

    def client(self, route: str = STREAM, *, requests: int = 1, answers: int | None = 1, **fields: Any) -> Client:
        """A new client.

        Args:
            route: Where it asks.
            requests: How many outcomes the gateway's log must have of it.
            answers: The same of the engine's; None, where it depends on the moment whether it is one or none.
            fields: Of its question; `key` is its idempotency key.
        """
        client = Client(self.service.gateway.port, route, cable=self._cable, **fields)
        self.clients.append(client)
        self.lines[client.request_id] = requests, answers
        return client

    async def ask_both(self) -> tuple[Told, Told]:
        """Asks on both routes at once; returns what each was told."""
        streaming, whole = self.client(STREAM), self.client(FALLBACK)
        await asyncio.gather(streaming.ask(), whole.ask())
        return await asyncio.gather(streaming.read_to_end(), whole.read_to_end())

    def asked_upstream(self, client: Client) -> list[UpstreamRequest]:
        """What the model was asked for a client."""
        wanted = client.request_id.encode()
        return [asked for asked in self.service.upstream.requests if wanted in asked.body]

    async def check(self) -> None:
        """Checks everything, and leaves the service as it was."""
        for client in self.clients:
            await client.gone()
            check_told(client.told, self._truth)
            await self._check_model_left(client)
        await self._check_outcomes()
        self.service.upstream.forget()
        await check_next_students_are_answered(self.service)
        await check_at_rest(self.service)
        await self._check_outcomes()

    async def _check_model_left(self, client: Client) -> None:
        if client.left_at is None:
            return
        for asked in self.asked_upstream(client):
            await asked.closed.within()
            assert asked.closed_at is not None
            assert asked.closed_at - client.left_at < CLOSED_WITHIN_SECONDS

    async def _check_outcomes(self) -> None:
        """Each has as many as expected: waits for them, and is called again to see that no more have come."""
        for request_id, (requests, answers) in self.lines.items():
            await self._check_logged(request_id, requests, answers)

    async def _check_logged(self, request_id: str, requests: int, answers: int | None) -> None:
        logged = functools.partial(self._outcomes, request_id)
        await eventually(lambda: logged()[0] >= requests)
        await eventually(lambda: logged()[1] >= (answers or 0))
        assert logged()[0] == requests
        assert logged()[1] in ((0, 1) if answers is None else (answers,))

    def _outcomes(self, request_id: str) -> tuple[int, int]:
        requests = records(self.service.gateway, "request ended", request_id)
        answers = records(self.service.engine, "answer ended", request_id)
        return len([each for each in requests if each["outcome"]]), len([each for each in answers if each["outcome"]])


@asynccontextmanager
async def invariants(service: Service, truth: str = "", cable: Cable | None = None) -> AsyncIterator[Case]:
    """Runs one case, and checks all of it afterwards.

    Args:
        service: What is broken and must hold.
        truth: The whole answer, of which every client must have a prefix.
        cable: At whose other end the clients are, if not on this machine.
    """
    service.upstream.forget()
    case = Case(service, truth, cable)
    try:
        yield case
    except BaseException:
        for client in case.clients:
            await client.gone()
        raise
    await case.check()


def check_told(told: Told, truth: str) -> None:
    """One true ending, or a cut that the client can see; and until then nothing but a beginning of the truth."""
    kinds = [event["type"] for event in told.events]
    assert kinds[:1] in ([], ["start"]), kinds
    assert set(kinds[1:-1]) <= {"content"}, kinds
    assert kinds[1:] == [] or kinds[-1] in {"content", "end", "error"}
    assert kinds[-1:] in (["end"], ["error"]) or not (told.whole and kinds), "a stream ended without an ending"
    assert told.numbers == sorted(set(told.numbers))
    assert truth.startswith(told.text)
    text = ""
    for event in told.events:
        text += event.get("delta", "")
        assert event.get("content", text) == text
    if told.ending and (kinds[-1:] == ["end"] or told.reply.get("success")):
        assert told.ending.get("content", told.ending.get("response")) == truth


async def check_next_students_are_answered(service: Service) -> None:
    """As many at once as there are slots, then one more on each route."""
    gate = up.Signal()
    service.upstream.default(
        up.stream_headers(), up.gate(gate), up.chunk(HEALTHY), up.finish(), up.usage(30, 20), up.done()
    )
    port = service.gateway.port
    clients = [Client(port, (STREAM, FALLBACK)[number % 2]) for number in range(service.slots)]
    await asyncio.gather(*(client.ask() for client in clients))
    await service.upstream.request(service.slots - 1)
    gate.set()
    for client in clients:
        await _check_answered(client)
    for route in (STREAM, FALLBACK):
        await _check_answered(await Client(port, route).ask())
    service.upstream.forget()


async def rested(service: Service) -> Service:
    """Returns the service, once it is known what it has open when it is at rest."""
    if not service.rest:
        await check_next_students_are_answered(service)
        service.rest = await _counts(service)
    return service


async def check_at_rest(service: Service) -> None:
    """Nothing is open or running that was not when the service was new."""
    found: dict[str, dict[str, int]] = {}

    async def at_rest() -> bool:
        found.update(await _counts(service))
        return not _above(found, service.rest)

    await until(at_rest, SETTLE_SECONDS, lambda: f"{found} is not at rest: {service.rest}")


async def _check_answered(client: Client) -> None:
    told = await client.read_to_end()
    await client.gone()
    check_told(told, HEALTHY)
    assert (told.status, told.code, told.whole) == (200, "", True)


async def _counts(service: Service) -> dict[str, dict[str, int]]:
    return {"engine": await count(service.engine, service.pool_port), "gateway": await count(service.gateway)}


def _above(found: dict[str, dict[str, int]], rest: dict[str, dict[str, int]]) -> bool:
    return any(found[name][what] > most for name, whats in rest.items() for what, most in whats.items())

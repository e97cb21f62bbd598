"""How far a question has come when something happens to it: the phases, as functions that bring a client there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests import upstream as up
from tests.faults.client import FALLBACK, STREAM
from tests.faults.service import eventually, frozen, unread_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.faults.client import Client
    from tests.faults.invariants import Case

    Phase = Callable[[Case, str], AbstractAsyncContextManager[Client]]

TRUTH = "Hi there"
_PART_OF_BODY = 3_000
_MORE_THAN_A_PING = 50
_PIECES = ("Hi", " there")


@asynccontextmanager
async def connected(case: Case, route: str) -> AsyncIterator[Client]:
    """Nothing was sent."""
    yield await case.client(route, requests=0, answers=0).connect()


@asynccontextmanager
async def mid_upload(case: Case, route: str) -> AsyncIterator[Client]:
    """The gateway waits for the rest of the body."""
    client = case.client(route, answers=0)
    await client.connect()
    yield await client.send(_PART_OF_BODY)


@asynccontextmanager
async def before_first_event(case: Case, route: str) -> AsyncIterator[Client]:
    """The gateway has passed the question on, and the engine does nothing; it does again at the end."""
    script(case)
    with frozen(case.service.engine):
        before = unread_bytes(case.service.engine)
        client = await case.client(route, answers=None).ask()
        await eventually(lambda: unread_bytes(case.service.engine) > before + _MORE_THAN_A_PING)
        yield client


@asynccontextmanager
async def before_first_token(case: Case, route: str) -> AsyncIterator[Client]:
    """The model was asked, and says nothing."""
    case.service.upstream.default(up.silence())
    client = await case.client(route).ask()
    await asked(case, client)
    if route == STREAM:
        await client.read_text("")
    yield client


@asynccontextmanager
async def mid_stream(case: Case, route: str) -> AsyncIterator[Client]:
    """The model has said something."""
    script(case)
    client = await case.client(route).ask()
    await asked(case, client)
    if route == STREAM:
        await client.read_text(TRUTH)
    yield client


@asynccontextmanager
async def after_last_event(case: Case, route: str) -> AsyncIterator[Client]:
    """All is said, and the connection stays open for the next question."""
    case.service.upstream.default(*up.answer(*_PIECES))
    client = await case.client(route).ask()
    await client.read_to_end()
    yield client


PHASES: dict[str, Phase] = {
    "connected": connected,
    "mid-upload": mid_upload,
    "before the first event": before_first_event,
    "before the first token": before_first_token,
    "mid-stream": mid_stream,
    "after the last event": after_last_event,
}
ROUTES = {"stream": STREAM, "fallback": FALLBACK}


def script(case: Case) -> None:
    """The model says a few words, and then nothing."""
    case.service.upstream.default(up.stream_headers(), *map(up.chunk, _PIECES), up.silence())


async def asked(case: Case, client: Client) -> None:
    """Waits until the model was asked for this client."""
    await eventually(lambda: bool(case.asked_upstream(client)))

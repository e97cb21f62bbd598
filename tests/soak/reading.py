"""Clients that read one answer through however many connections it takes, and answers that can be checked."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.end_to_end.conftest import body
from tests.upstream import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.upstream import Connection

ALPHABET = ["a", " the", "\n", '"', "\\", "\u2028", "é", "数学", "👩‍🏫", "$x^2$"]
READ_SECONDS = 120
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Answers:
    """The answers to all questions: of random length and pace, but each the same each time."""

    seed: int
    paces: Sequence[float]
    """Seconds between two deltas."""

    def to(self, prompt: str) -> tuple[list[str], float]:
        """The deltas of the answer to a prompt, and the pause after each."""
        chance = random.Random(f"{self.seed}{prompt}")
        return chance.choices(ALPHABET, k=chance.randint(1, 80)), chance.choice(self.paces)

    async def write(self, connection: Connection) -> None:
        """The upstream's step: writes the answer to whatever is asked."""
        texts = [part.get("text") for part in connection.request.json["messages"][-1]["content"]]
        deltas, pause = self.to(texts[1])
        await connection.start_body(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n", chunked=True
        )
        for delta in deltas:
            await connection.write_body(events.content_event(delta))
            await asyncio.sleep(pause)
        await connection.write_body(events.finish_event() + events.usage_event(1, len(deltas)) + b"data: [DONE]\n\n")


@dataclass
class Tally:
    """What happened in all."""

    cuts_left: int = 0
    """How often clients are still to hang up."""
    answers: int = 0
    told: dict[str, int] = field(default_factory=dict)
    """How often a stream ended with which code, or a connection with what."""
    resumes: list[float] = field(default_factory=list)
    """Seconds from asking to resume to the first event that was missed."""

    def note(self, what: str) -> None:
        self.told[what] = self.told.get(what, 0) + 1


class Reader:
    """A client that reads one answer to its end.

    Args:
        chance: Its own.
        http: Shared with others.
        gateways: Any of them will do.
        answers: What it will be told.
        tally: Shared with others.
        anew: The codes after which it asks again, under the same key; after others it only comes back.
    """

    def __init__(
        self,
        chance: random.Random,
        http: aiohttp.ClientSession,
        gateways: list[str],
        answers: Answers,
        tally: Tally,
        anew: frozenset[str] = frozenset(),
    ) -> None:
        self._chance = chance
        self._http = http
        self._gateways = gateways
        self._answers = answers
        self._tally = tally
        self._anew = anew
        self._prompt = f"question {chance.random()}"
        self._key = str(uuid.uuid4())
        self._answer_id = ""
        self._last = -1
        self._text = ""
        self._over = False
        """Whether this connection has brought a terminal event."""
        self._ended = False

    async def read(self) -> None:
        """Reads to the end, and checks that it is the whole answer."""
        connections = 0
        try:
            async with asyncio.timeout(READ_SECONDS):
                while not self._ended:
                    connections += 1
                    await self._connect()
        except TimeoutError:
            raise AssertionError(f"no end on {connections} connections, last at {self._last}: {self._tally}") from None
        deltas, _ = self._answers.to(self._prompt)
        assert self._text == "".join(deltas)
        self._tally.answers += 1

    async def _connect(self) -> None:
        """One connection: to the end, to a cut of ours, or to one that happens to us."""
        cut_after = self._chance.randint(0, 12) if self._tally.cuts_left > 0 else None
        asked = time.monotonic()
        resumed = self._last >= 0
        self._over = False
        try:
            async with self._ask() as reply:
                if reply.status != 200:
                    await self._refused(reply)
                    return
                async for number, event in self._events(reply):
                    if resumed:
                        self._tally.resumes.append(time.monotonic() - asked)
                        resumed = False
                    self._take(number, event)
                    if cut_after == 0 and not self._ended:
                        self._tally.cuts_left -= 1
                        return
                    cut_after = cut_after and cut_after - 1
        except (aiohttp.ClientError, ConnectionError) as error:
            self._tally.note(type(error).__name__)
            await self._pause()
            return
        assert self._over, "a stream ended without an ending"

    async def _refused(self, reply: aiohttp.ClientResponse) -> None:
        said = await reply.text()
        assert reply.status in (503, 204), said
        self._tally.note(json.loads(said)["code"] if said else "204")
        await self._pause()

    async def _pause(self) -> None:
        """As every client has one before it tries again: without it, many keep from work what they wait for."""
        await asyncio.sleep(PAUSE_SECONDS)

    def _ask(self) -> Any:
        gateway = self._chance.choice(self._gateways)
        if self._answer_id and self._chance.random() < 0.8:
            after = {"Last-Event-ID": str(self._last)} if self._last >= 0 else {}
            headers = {"Accept": "text/event-stream", **after}
            return self._http.get(f"{gateway}/api/ai/answers/{self._answer_id}", headers=headers)
        self._last, self._text = -1, ""
        headers = {"Idempotency-Key": self._key}
        return self._http.post(f"{gateway}/api/ai/chat-image-stream", json=body(prompt=self._prompt), headers=headers)

    def _take(self, number: int | None, event: dict[str, Any]) -> None:
        match event["type"]:
            case "start":
                assert self._answer_id in ("", event["answer_id"]), "a key names one answer"
                self._answer_id = event["answer_id"]
            case "content":
                self._text += event["delta"]
                assert event["content"] == self._text, "a delta was lost, doubled or reordered"
            case "end":
                assert event["content"] == self._text
                self._ended = self._over = True
            case _:
                self._failed(event)
                return
        assert number is not None
        assert number > self._last, "numbers rise"
        self._last = number

    def _failed(self, event: dict[str, Any]) -> None:
        assert event["code"] in {"ENGINE_UNAVAILABLE", *self._anew}, event
        assert event["retryable"]
        self._tally.note(event["code"])
        self._over = True
        if event["code"] in self._anew:
            self._answer_id, self._last, self._text = "", -1, ""

    async def _events(self, reply: aiohttp.ClientResponse) -> AsyncIterator[tuple[int | None, dict[str, Any]]]:
        number = None
        async for line in reply.content:
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(b"data: ") and line.endswith(b"\n"):
                yield number, json.loads(line[6:])
                number = None

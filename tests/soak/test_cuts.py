"""Random cuts: clients that hang up and gateways that are killed, and not one delta lost, doubled or reordered.

Two engines that share a Redis, two gateways in front of both, all real processes; answers of random length and pace.
`make test` runs some, `make soak` a thousand cuts; SOAK_SEED chooses others.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.end_to_end.conftest import body
from tests.processes import Process, running_engine_process, running_gateway_process
from tests.redis_server import running_redis
from tests.upstream import Upstream, events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.upstream import Connection

CUTS = int(os.environ.get("SOAK_CUTS", "200"))
SEED = int(os.environ.get("SOAK_SEED", "7"))
CLIENTS = 12
GATEWAY_KILL_SECONDS = 0.7
ALPHABET = ["a", " the", "\n", '"', "\\", "\u2028", "é", "数学", "👩‍🏫", "$x^2$"]


def answer_to(prompt: str) -> tuple[list[str], float]:
    """The deltas of the answer to a prompt, and the pause after each: random, but the same each time."""
    chance = random.Random(f"{SEED}{prompt}")
    return chance.choices(ALPHABET, k=chance.randint(1, 80)), chance.choice([0, 0.002, 0.01, 0.03])


async def write_answer(connection: Connection) -> None:
    """The upstream's step: writes the answer to whatever is asked."""
    texts = [part.get("text") for part in connection.request.json["messages"][-1]["content"]]
    deltas, pause = answer_to(texts[1])
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

    cuts_left: int = CUTS
    answers: int = 0
    kills: int = 0
    resumes: list[float] = field(default_factory=list)
    """Seconds from asking to resume to the first event that was missed."""


class Reader:
    """A client that reads one answer through however many connections it takes."""

    def __init__(self, chance: random.Random, http: aiohttp.ClientSession, gateways: list[str], tally: Tally) -> None:
        self._chance = chance
        self._http = http
        self._gateways = gateways
        self._tally = tally
        self._prompt = f"question {chance.random()}"
        self._key = str(uuid.uuid4())
        self._answer_id = ""
        self._last = -1
        self._text = ""
        self._ended = False

    async def read(self) -> None:
        """Reads to the end, and checks that it is the whole answer."""
        async with asyncio.timeout(60):
            while not self._ended:
                await self._connect()
        deltas, _ = answer_to(self._prompt)
        assert self._text == "".join(deltas)
        self._tally.answers += 1

    async def _connect(self) -> None:
        """One connection: to the end, to a cut of ours, or to one that happens to us."""
        cut_after = self._chance.randint(0, 12) if self._tally.cuts_left > 0 else None
        asked = time.monotonic()
        resumed = self._last >= 0
        try:
            async with self._ask() as reply:
                if reply.status != 200:
                    assert reply.status in (503, 204), await reply.text()
                    await asyncio.sleep(0.05)
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
        except (aiohttp.ClientError, ConnectionError):
            return

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
                self._ended = True
            case _:
                assert event["code"] == "ENGINE_UNAVAILABLE", event
                return
        assert number is not None
        assert number > self._last, "numbers rise"
        self._last = number

    async def _events(self, reply: aiohttp.ClientResponse) -> AsyncIterator[tuple[int | None, dict[str, Any]]]:
        number = None
        async for line in reply.content:
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(b"data: ") and line.endswith(b"\n"):
                yield number, json.loads(line[6:])
                number = None


async def read_until_all_cuts_are_made(chance: random.Random, gateways: list[str], tally: Tally) -> None:
    async with aiohttp.ClientSession() as http:
        while tally.cuts_left > 0:
            await Reader(chance, http, gateways, tally).read()


async def kill_gateways(
    engines: list[Process], gateways: list[Process], stack: ExitStack, tally: Tally, enough: asyncio.Event
) -> None:
    """Kills one gateway after the other with SIGKILL, and starts it anew where it was."""
    for place in itertools.cycle(range(len(gateways))):
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), GATEWAY_KILL_SECONDS)
            return
        await asyncio.to_thread(gateways[place].stop, signal.SIGKILL)
        tally.kills += 1
        again = running_gateway_process(*engines, port=gateways[place].port)
        gateways[place] = await asyncio.to_thread(stack.enter_context, again)


async def test_no_delta_is_lost_doubled_or_reordered_and_no_model_asked_twice() -> None:
    chance, tally = random.Random(SEED), Tally()
    async with Upstream() as upstream:
        upstream.default(write_answer)
        with ExitStack() as stack:
            redis = stack.enter_context(running_redis())
            engines, gateways = await asyncio.to_thread(_start, stack, upstream.base_url, redis.url)
            urls = [f"http://127.0.0.1:{gateway.port}" for gateway in gateways]
            enough = asyncio.Event()
            killing = asyncio.create_task(kill_gateways(engines, gateways, stack, tally, enough))
            try:
                async with asyncio.TaskGroup() as clients:
                    for _ in range(CLIENTS):
                        clients.create_task(read_until_all_cuts_are_made(random.Random(chance.random()), urls, tally))
            finally:
                enough.set()
                await killing
                await asyncio.to_thread(stack.close)
    latencies = sorted(tally.resumes)
    p99 = latencies[int(len(latencies) * 0.99)]
    print(f"{CUTS} cuts, {tally.kills} gateways killed, {tally.answers} answers, resumes' p99 {p99:.3f} s")
    assert len(upstream.requests) == tally.answers
    assert tally.kills > 0
    assert p99 < 1


def _start(stack: ExitStack, base_url: str, redis_url: str) -> tuple[list[Process], list[Process]]:
    engines = [stack.enter_context(running_engine_process(base_url, STATE_URL=redis_url)) for _ in range(2)]
    gateways = [stack.enter_context(running_gateway_process(*engines)) for _ in range(2)]
    return engines, gateways

"""No answer that broke off is reported as whole, and none that is whole as failed, however the model's server sends it.

Every answer is another one: its text, its framing and, where it breaks off, the place and the way are random.
`make test` runs some, `make soak` thousands.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.processes import running_engine_process, running_gateway_process
from tests.soak.asking import ROUTES, ask, request
from tests.upstream import Upstream, events

if TYPE_CHECKING:
    from tests.soak.asking import Reply
    from tests.upstream import Connection

pytestmark = pytest.mark.timeout(1800)

ANSWERS = int(os.environ.get("SOAK_ANSWERS", "100"))
"""Of each kind."""
SEED = int(os.environ.get("SOAK_SEED", "7"))
AT_ONCE = 12
ALPHABET = ["a", " the", "\n", '"', "\\", "\u2028", "é", "数学", "👩‍🏫", "$x^2$", "data: ", "[DONE]"]
NEWLINES = [b"\n", b"\n", b"\r\n", b"\r"]


@dataclass
class Plan:
    """What the server sends, and how."""

    deltas: list[str]
    body: bytes
    size: int
    """Of each write."""
    framing: str
    """`chunked`, `length` or `until close`."""
    ends_with: str
    """`all`, or how it breaks off: `FIN`, `RST`, or `end`, which is a proper end of HTTP."""

    @property
    def text(self) -> str:
        return "".join(self.deltas)


def plan(prompt: str) -> Plan:
    """The plan for a prompt: random, but the same each time."""
    chance = random.Random(f"{SEED}{prompt}")
    whole = prompt.startswith("whole")
    deltas = chance.choices(ALPHABET, k=chance.randint(1, 30))
    pieces = [events.role_event(), *map(events.content_event, deltas)]
    if chance.random() < 0.3:
        place = chance.randint(0, len(pieces))
        pieces[place:place] = [
            chance.choice([b": ping\n\n", b"id: 7\n\n", b"retry: 5\n\n", events.empty_choices_event()])
        ]
    body = b"\xef\xbb\xbf" * (chance.random() < 0.1) + b"".join(pieces)
    tail = events.finish_event(chance.choice(["stop", "length", "content_filter"]))
    tail += chance.choice([b"", events.usage_event(3, len(deltas))]) + chance.choice([b"", events.DONE])
    framing, ends_with = chance.choice(["chunked", "length", "until close"]), "all"
    if whole:
        body += tail
    else:
        body, framing, ends_with = broken_off(chance, body, tail, framing)
    newline = chance.choice(NEWLINES)
    return Plan(deltas, body.replace(b"\n", newline), chance.choice([3, 40, 1_000, 100_000]), framing, ends_with)


def broken_off(chance: random.Random, body: bytes, tail: bytes, framing: str) -> tuple[bytes, str, str]:
    """A body that ends before its finish reason has been said, mostly after some text."""
    ends_with = chance.choice(["FIN", "RST", "end"])
    match chance.choice(["anywhere", "before the finish reason", "within it", "[DONE] instead"]):
        case "anywhere":
            body = body[: chance.randint(len(body) // 4, len(body))]
        case "within it":
            body += tail[: chance.randrange(tail.index(b"\n"))]
        case "[DONE] instead":
            body, ends_with = body + events.DONE, "end"
    return body, framing, ends_with


async def send(connection: Connection) -> None:
    """The upstream's step: sends what is planned for whatever is asked."""
    texts = [part.get("text") for part in connection.request.json["messages"][-1]["content"]]
    planned = plan(texts[1])
    missing = 100 if planned.ends_with in ("FIN", "RST") else 0
    framings = {
        "length": f"content-length: {len(planned.body) + missing}",
        "chunked": "transfer-encoding: chunked",
        "until close": "connection: close",
    }
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framings[planned.framing]}\r\n\r\n"
    if planned.framing == "length":
        await connection.write(head.encode())
    else:
        await connection.start_body(head.encode(), chunked=planned.framing == "chunked")
    for start in range(0, len(planned.body), planned.size):
        await connection.write_body(planned.body[start : start + planned.size])
    if planned.ends_with == "RST":
        connection.reset()
    elif planned.ends_with == "FIN":
        connection.close()


def fault(prompt: str, reply: Reply) -> str:
    """What is wrong with what was told of an answer; empty, if nothing is."""
    if prompt.startswith("whole"):
        return "" if reply.text == plan(prompt).text else f"whole, and told as {reply}"
    return "" if reply.code == "UPSTREAM_TRUNCATED" else f"broken off, and told as {reply}"


async def test_every_answer_is_told_as_what_it_is() -> None:
    chance = random.Random(SEED)
    prompts = [f"{kind} {number}" for number in range(ANSWERS) for kind in ("whole", "broken off")]
    chance.shuffle(prompts)
    faults: list[str] = []
    async with Upstream() as upstream:
        upstream.default(send)
        with ExitStack() as stack:
            engine = await asyncio.to_thread(stack.enter_context, running_engine_process(upstream.base_url))
            gateway = await asyncio.to_thread(stack.enter_context, running_gateway_process(engine, DRAIN_SECONDS="0"))

            async def ask_each() -> None:
                while prompts:
                    prompt = prompts.pop()
                    reply = await ask(gateway.port, request(prompt, chance.choice(ROUTES)))
                    faults.extend(filter(None, [fault(prompt, reply)]))

            await asyncio.gather(*(ask_each() for _ in range(AT_ONCE)))
            await asyncio.to_thread(stack.close)
    print(f"{ANSWERS} whole answers and {ANSWERS} broken off: {len(faults)} told as what they are not")
    assert faults == []

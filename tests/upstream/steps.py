"""What a script is made of: each function here returns a step, or a sequence of steps."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from tests.upstream import events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from tests.upstream.server import Connection

    Step = Callable[[Connection], Awaitable[None]]
    Script = tuple[Step, ...]

NO_HEADERS: Mapping[str, str] = {}


class Waitable(Protocol):
    """What `gate` waits for: a `Signal`, or an `asyncio.Event` of the server's own loop."""

    async def wait(self) -> object: ...


def reply(status: int, body: bytes | dict[str, object] = b"", headers: Mapping[str, str] = NO_HEADERS) -> Step:
    """A whole response that is no stream; a dict is sent as JSON. The connection stays open."""
    kind = "application/json" if isinstance(body, dict) else "text/plain"
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    fields = {"content-type": kind, "content-length": str(len(content)), **_lower(headers)}
    return wire(_head(status, fields) + content)


def refusal(status: int, code: str | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Step:
    """An error response with OpenAI's error object."""
    return reply(status, events.error_body(f"Refused with {status}", "invalid_request_error", code), headers)


def html(status: int = 502, headers: Mapping[str, str] = NO_HEADERS) -> Step:
    """What a proxy in front of the model answers."""
    page = f"<html><body><h1>{status}</h1></body></html>".encode()
    return reply(status, page, {"content-type": "text/html", **_lower(headers)})


def stream_headers(*, status: int = 200, chunked: bool = True, headers: Mapping[str, str] = NO_HEADERS) -> Step:
    """The head of a streamed response. Not chunked: the body then lasts until the connection is closed.

    When the script ends, the body is ended properly: by the last chunk, or by closing.
    """
    framing = {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
    fields = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_1", **framing}

    async def step(connection: Connection) -> None:
        await connection.start_body(_head(status, {**fields, **_lower(headers)}), chunked=chunked)

    return step


def raw(data: bytes) -> Step:
    """Any bytes of a streamed body, in one write (and one HTTP chunk)."""

    async def step(connection: Connection) -> None:
        await connection.write_body(data)

    return step


def wire(data: bytes) -> Step:
    """Bytes on the socket as they are: for responses that are wrong in their framing."""

    async def step(connection: Connection) -> None:
        await connection.write(data)

    return step


def pieces(data: bytes, size: int = 1) -> Script:
    """The bytes in writes of `size`, so that the reader gets them cut anywhere."""
    return tuple(raw(data[start : start + size]) for start in range(0, len(data), size))


def chunk(content: str) -> Step:
    return raw(events.content_event(content))


def role() -> Step:
    return raw(events.role_event())


def finish(reason: str = "stop") -> Step:
    return raw(events.finish_event(reason))


def usage(prompt: int, completion: int) -> Step:
    return raw(events.usage_event(prompt, completion))


def empty_choices() -> Step:
    return raw(events.empty_choices_event())


def error_object(message: str = "The server had an error", kind: str = "server_error") -> Step:
    return raw(events.error_event(message, kind))


def done() -> Step:
    return raw(events.DONE)


def gate(opening: Waitable) -> Step:
    """Nothing until the test opens the gate (or the client leaves)."""

    async def step(connection: Connection) -> None:
        await opening.wait()

    return step


def gated(gates: Iterable[Waitable], deltas: Iterable[str]) -> Script:
    """Each delta behind its own gate: the test steps token by token."""
    return tuple(step for opening, delta in zip(gates, deltas, strict=True) for step in (gate(opening), chunk(delta)))


def silence() -> Step:
    """Nothing for ever; the client's leaving ends it."""

    async def step(connection: Connection) -> None:
        await asyncio.get_running_loop().create_future()

    return step


def pause(seconds: float) -> Step:
    """For tests of time itself; anything else takes a gate."""

    async def step(connection: Connection) -> None:
        await asyncio.sleep(seconds)

    return step


def close() -> Step:
    """FIN, whatever was promised; steps behind it do not happen."""

    async def step(connection: Connection) -> None:
        connection.close()

    return step


def reset() -> Step:
    """RST; steps behind it do not happen."""

    async def step(connection: Connection) -> None:
        connection.reset()

    return step


def answer(
    *deltas: str,
    usage: tuple[int, int] | None = (30, 20),
    finish: str | None = "stop",
    done: bool = True,
) -> Script:
    """A whole streamed answer, one write for each delta; each part of its ending can be left out."""
    ending = [
        *([events.finish_event(finish)] if finish else []),
        *([events.usage_event(*usage)] if usage else []),
        *([events.DONE] if done else []),
    ]
    return (stream_headers(), role(), *map(chunk, deltas), *map(raw, ending))


def _head(status: int, fields: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode("latin-1")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

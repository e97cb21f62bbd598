"""A cheap OpenAI-compatible upstream: bytes made ahead, one write for each token, paced or as fast as the loop turns.

A prompt says what to answer with: `tokens=200 rate=50`, tokens in all and tokens a second; rate=0 does not pause.
Run as `python -m bench.upstream PORT`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import sys
from typing import Any, cast

import uvloop

from bench.text import tokens

_ORDER = re.compile(rb"tokens=(\d+) rate=(\d+(?:\.\d+)?)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(**fields: Any) -> bytes:
    chunk = {
        "id": "chatcmpl-CJmd3u2aVVqZ0G8Fh5kS1w7bXyTnR",
        "object": "chat.completion.chunk",
        "created": 1759832000,
        "model": "gpt-5.4-mini-2026-03-17",
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
        **fields,
    }
    return _chunk(b"data: %b\n\n" % json.dumps(chunk, separators=(",", ":")).encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


@functools.cache
def _answer(count: int) -> tuple[bytes, ...]:
    """The writes of an answer: its head, one for each token, its end."""
    usage = {"prompt_tokens": 30, "completion_tokens": count, "total_tokens": 30 + count}
    head = _event(choices=_choice({"role": "assistant", "content": "", "refusal": None}), usage=None)
    end = (
        _event(choices=_choice({}, "stop"), usage=None) + _event(choices=[], usage=usage) + _chunk(b"data: [DONE]\n\n")
    )
    texts = (_event(choices=_choice({"content": token}), usage=None) for token in tokens(count))
    return (_HEAD + head, *texts, end + _chunk(b""))


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = bytearray()
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._request += data
        if self._missing is None and (end := self._request.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._request, 0, end)
            self._missing = end + 4 + (int(length[1]) if length else 0)
        if self._missing is not None and len(self._request) >= self._missing:
            order = _ORDER.search(self._request)
            count, rate = (int(order[1]), float(order[2])) if order else (1, 0.0)
            self._request, self._missing = bytearray(), None
            self._writes, self._written = _answer(count), 0
            self._pause, self._due = 1 / rate if rate else 0, self._loop.time()
            self._write()

    def _write(self) -> None:
        """Writes one piece; the head with the first token, and the end after a pause of its own."""
        if self._transport.is_closing():
            return
        if self._written == 0:
            self._transport.write(self._writes[0])
            self._written = 1
        self._transport.write(self._writes[self._written])
        self._written += 1
        if self._written == len(self._writes):
            return
        if self._pause:
            self._due += self._pause
            self._loop.call_at(self._due, self._write)
        else:
            self._loop.call_soon(self._write)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))

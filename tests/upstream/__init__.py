"""A scripted server that stands in for OpenAI: a test says what happens, byte by byte.

It speaks HTTP/1.1 on raw sockets, because the tests need what no HTTP library lets them send: bodies cut
inside a character, resets, silence, HTML, wrong headers.

    async with Upstream() as upstream:
        opened = Signal()
        upstream.script(stream_headers(), chunk("Hel"), gate(opened), chunk("lo"), finish(), done())
        ...                                         # point the code under test at upstream.base_url
        request = await upstream.request(0)         # what it asked
        await request.closed.within()               # it hung up
"""

from tests.upstream import events
from tests.upstream.server import Connection, Signal, Upstream, UpstreamRequest, running_upstream
from tests.upstream.steps import (
    answer,
    chunk,
    close,
    done,
    empty_choices,
    error_object,
    finish,
    gate,
    gated,
    html,
    pause,
    pieces,
    raw,
    refusal,
    reply,
    reset,
    role,
    silence,
    stream_headers,
    usage,
    wire,
)

__all__ = [
    "Connection",
    "Signal",
    "Upstream",
    "UpstreamRequest",
    "answer",
    "chunk",
    "close",
    "done",
    "empty_choices",
    "error_object",
    "events",
    "finish",
    "gate",
    "gated",
    "html",
    "pause",
    "pieces",
    "raw",
    "refusal",
    "reply",
    "reset",
    "role",
    "running_upstream",
    "silence",
    "stream_headers",
    "usage",
    "wire",
]

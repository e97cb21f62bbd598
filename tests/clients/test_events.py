"""Server-sent events as they may come: cut anywhere, with any ends of lines, with what the standard lets be ignored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest

from studyai_client import Delta, Event, Finished, ProtocolError, Started, UpstreamTimeoutError, Usage
from studyai_client import http_wire as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

START = {"type": "start", "timestamp": "2025-10-07T10:30:00.123Z", "model": "m", "answer_id": "a", "session_id": "s"}
END = {
    "type": "end",
    "tokens": 3,
    "finish_reason": "stop",
    "processing_time_ms": 5,
    "content": "x é\u2028 6",
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
STREAM = "".join(
    [
        f"id: 0\ndata: {json.dumps(START)}\n\n",
        ": a comment\n\n",
        'id: 1\nevent: message\nretry: 5\ndata: {"type":"content",\ndata: "delta":"x é"}\n\n',
        ":\n\n",
        'id:2\ndata:{"type":"content","delta":"\u2028 6"}\n\n',
        'id: 3\ndata: {"type":"unknown to this version"}\n\n',
        "id: 4\n\n",
        f"id: 5\ndata: {json.dumps(END)}\n\n",
    ]
)


class Pieces(httpx2.SyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def events_of(*pieces: bytes) -> list[Event]:
    reply = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream; charset=utf-8"},
        stream=Pieces(*pieces),
        request=httpx2.Request("GET", "http://x"),
    )
    assert wire.is_stream(reply)
    numbered = [wire.event_of(told) for told in httpx2.EventSource(reply)]
    return [one.event for one in numbered if one]


def check(events: list[Event]) -> None:
    started, first, second, finished = events
    assert isinstance(started, Started)
    assert (first, second) == (Delta(text="x é"), Delta(text="\u2028 6"))
    assert isinstance(finished, Finished)
    assert finished.text == "x é\u2028 6"


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_stream_cut_anywhere_gives_the_same_events(line_end: str, mark: str) -> None:
    data = (mark + STREAM.replace("\n", line_end)).encode()
    for cut in range(len(data)):
        check(events_of(data[:cut], data[cut:]))


def test_stream_in_single_bytes_gives_the_same_events() -> None:
    check(events_of(*(bytes([byte]) for byte in STREAM.encode())))


def test_event_that_is_cut_off_is_not_told() -> None:
    whole = STREAM.encode()
    assert len(events_of(whole[: whole.rfind(b"\n\n") + 1])) == 3


def test_error_event_is_raised_with_all_it_says() -> None:
    told = {"type": "error", "error": "Silent.", "code": "UPSTREAM_TIMEOUT", "retryable": True, "retry_after_ms": 1500}
    with pytest.raises(UpstreamTimeoutError) as failed:
        events_of(f"data: {json.dumps(told | {'partial': True, 'request_id': 'r'})}\n\n".encode())
    error = failed.value
    assert (error.message, error.retryable, error.retry_after, error.request_id) == ("Silent.", True, 1.5, "r")


def test_what_a_newer_service_says_beyond_this_version_is_left_out() -> None:
    usage = {**END["usage"], "estimated": True, "cached_tokens": 1}  # type: ignore[dict-item]  # one of END's members
    (finished,) = events_of(f"id: 1\ndata: {json.dumps({**END, 'usage': usage})}\n\n".encode())
    assert isinstance(finished, Finished)
    assert finished.usage == Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, estimated=True)


@pytest.mark.parametrize("data", ["no JSON", "[]", '{"type":"content"}', '{"type":"start"}', "{}"])
def test_event_that_is_not_studyais_is_told_as_such(data: str) -> None:
    with pytest.raises(ProtocolError):
        events_of(f"id: 0\ndata: {data}\n\n".encode())

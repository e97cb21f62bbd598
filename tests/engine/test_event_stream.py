from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_grpc.event_stream import MAX_EVENT_BYTES, EventStreamDecoder, EventTooLargeError

LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data:  c",
        b": note",
        b"id: 1",
        b"event: x",
        b"retry: 5",
        b"data: \xc3\xa9",
        b"\xef\xbb\xbfdata: d",
        b"",
        b"",
    ]
)
BODIES = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def decode(*pieces: bytes) -> list[bytes]:
    decoder = EventStreamDecoder()
    return [data for piece in pieces for data in decoder.feed(piece)]


@given(BODIES, st.data())
def test_events_are_the_same_wherever_the_body_is_split(body: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    # A lone CR at the very end may yet become a CRLF: nothing more is known without the next byte, or needed.
    assert decode(*pieces) == decode(body)


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": comment\n\nid: 3\n\nevent: e\n\nretry: 9\n\n", []),
        (b"data: cut", []),
        (b"data: a\n", []),
        (b"data: a\r\rdata: b\r\n\r\n", [b"a", b"b"]),
        ("data: \u2028\u0085\n\n".encode(), ["\u2028\u0085".encode()]),
        (b"datax: a\n\n", []),
        (b"data\n\n", [b""]),
    ],
)
def test_body_is_read_as_the_standard_says(body: bytes, events: list[bytes]) -> None:
    assert decode(body) == events


@pytest.mark.parametrize("before", [b"data: a", b"data: a\n", b"data: a\r", b"data", b": note", b"\xef\xbb", b""])
@pytest.mark.parametrize(
    "piece",
    [
        b"data: b\n\n",
        b"data: b\ndata: c\n\n",
        b"data: b\rdata: c\n\n",
        b"data: b\r\n\n",
        b"data: b\n\ndata: c\n\n",
        b"data: b\n\n\ndata: c\n\n",
        b"data: b\n\nid: 1\ndata: c\n\n",
        b"data: b\n\ndata: c\ndata: d\n\n",
        b"data: b\n\ndata: \n\n",
        b"data: b\nx\n",
    ],
)
def test_piece_that_looks_like_whole_events_is_read_as_such_between_events_alone(before: bytes, piece: bytes) -> None:
    first = b"data: first\n\n"
    assert decode(first, before, piece) == decode(first + before + piece)


def test_byte_order_mark_counts_at_the_very_start_alone() -> None:
    marked = b"\xef\xbb\xbfdata: a\n\n"
    assert decode(*[marked[place : place + 1] for place in range(len(marked))]) == [b"a"]
    assert decode(b"\n", marked) == decode(b"\n" + marked) == []


def test_only_one_line_feed_belongs_to_a_carriage_return() -> None:
    assert decode(b"data: a\r", b"\n", b"\n") == [b"a"]
    assert decode(b"data: a\r", b"\n") == decode(b"data: a\r", b"", b"\n") == []


def test_event_without_end_is_given_up() -> None:
    piece = b"data: " + b"x" * 994 + b"\n"
    with pytest.raises(EventTooLargeError):
        decode(*[piece] * (MAX_EVENT_BYTES // 990))


def test_line_without_end_is_given_up() -> None:
    with pytest.raises(EventTooLargeError):
        decode(b"data: ", *[b"x" * 1000] * (MAX_EVENT_BYTES // 990))


def test_event_of_empty_lines_without_end_is_given_up() -> None:
    with pytest.raises(EventTooLargeError):
        decode(*[b"data\n" * 1000] * (MAX_EVENT_BYTES // 990))


def test_line_that_comes_byte_by_byte_takes_no_longer_than_its_length() -> None:
    piece, began = b"x", time.process_time()
    decode(b"data: ", *[piece] * 500_000)
    assert time.process_time() - began < 5

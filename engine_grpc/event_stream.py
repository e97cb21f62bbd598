"""Decodes a text/event-stream body into the data of its events: a pure codec, fed bytes as they come.

Follows "Parsing an event stream" of the HTML standard (9.2.6), with two stricter rules fit for a machine's stream:
an event's data stays bytes, so that the JSON decoder can refuse bad UTF-8 instead of papering over it, and a line or
an event has a limit.
"""

from __future__ import annotations

import codecs

MAX_EVENT_BYTES = 1024 * 1024
_DATA, _END = b"data: ", b"\n\n"


class EventTooLargeError(ValueError):
    """An event grew past `MAX_EVENT_BYTES`."""


class EventStreamDecoder:
    """Turns pieces of a body, split anywhere, into whole events' data."""

    __slots__ = ("_after_cr", "_data", "_line", "_size", "_start")

    def __init__(self) -> None:
        self._line = bytearray()
        """A line whose end has not come yet."""
        self._data: list[bytes] = []
        self._size = 0
        """Bytes of `_data`, line ends included, so that empty lines count towards the limit as well."""
        self._after_cr = False
        self._start: bytes | None = b""
        """The body's first bytes until it is clear whether they are a BOM, then None."""

    def feed(self, piece: bytes) -> list[bytes]:
        """Returns the data of the events that `piece` completes; events without data (control only) have none.

        Takes time in proportion to `piece`, however long the line is that it belongs to.

        Raises:
            EventTooLargeError: The event being read is too large.
        """
        if events := self._whole(piece):
            return events
        events = []
        for line in self._lines(self._without_bom(piece)):
            if line:
                self._field(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if len(self._line) + self._size > MAX_EVENT_BYTES:
            raise EventTooLargeError
        return events

    def _whole(self, piece: bytes) -> list[bytes]:
        """The events of a piece that begins and ends between two events and has lines of data alone; else none.

        Most pieces are so. To look through them line by line costs several times as much.
        """
        between = self._start is None and not (self._line or self._data or self._after_cr)
        if between and piece.startswith(_DATA) and piece.endswith(_END) and b"\r" not in piece:
            events = piece[len(_DATA) : -len(_END)].split(_END + _DATA)
            # No line ends but those behind each: one line of data is all that each has.
            if piece.count(b"\n") == len(_END) * len(events):
                return events
        return []

    def _without_bom(self, piece: bytes) -> bytes:
        if self._start is None:
            return piece
        self._start += piece
        if self._start != codecs.BOM_UTF8 and codecs.BOM_UTF8.startswith(self._start):
            return b""
        piece, self._start = self._start.removeprefix(codecs.BOM_UTF8), None
        return piece

    def _lines(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` completes. CR, LF and CRLF end a line; a CRLF may be split between pieces."""
        if piece:
            after_cr, self._after_cr = self._after_cr, piece.endswith(b"\r")
            piece = piece.removeprefix(b"\n") if after_cr else piece
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        self._line += rest
        return lines

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1

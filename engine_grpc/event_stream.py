"""Decodes a text/event-stream body into the data of its events: a pure codec, fed bytes as they come.

Follows "Parsing an event stream" of the HTML standard (9.2.6), with two stricter rules fit for a machine's stream:
an event's data stays bytes, so that the JSON decoder can refuse bad UTF-8 instead of papering over it, and a line or
an event has a limit.
"""

from __future__ import annotations

import codecs

MAX_EVENT_BYTES = 1024 * 1024


class EventTooLargeError(ValueError):
    """An event grew past `MAX_EVENT_BYTES`."""


class EventStreamDecoder:
    """Turns pieces of a body, split anywhere, into whole events' data."""

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._size = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Returns the data of the events that `piece` completes; events without data (control only) have none.

        Raises:
            EventTooLargeError: The event being read is too large.
        """
        lines = self._lines(piece)
        events = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if len(self._buffer) + self._size > MAX_EVENT_BYTES:
            raise EventTooLargeError
        return events

    def _lines(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` completes. CR, LF and CRLF end a line; a CRLF may be split between pieces."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        if piece:
            self._after_cr = piece.endswith(b"\r")
        text = self._without_bom(self._buffer + piece)
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._buffer = text.split(b"\n")
        return lines

    def _without_bom(self, text: bytes) -> bytes:
        if self._at_start and len(text) >= len(codecs.BOM_UTF8):
            self._at_start = False
            return text.removeprefix(codecs.BOM_UTF8)
        return text

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)

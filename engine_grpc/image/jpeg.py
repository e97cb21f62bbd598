"""JPEG (ITU-T T.81, annex B): segments up to the first scan, then entropy-coded data and more segments.

The file ends at the first end-of-image marker: what phones put behind it (a second picture, a video, a depth
map) is dropped with the index that points to it.
"""

from __future__ import annotations

import itertools
import re
import struct
from typing import TYPE_CHECKING

from engine_grpc.image import orientation
from engine_grpc.image.picture import PartBudget, Picture, check_size, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = re.compile(rb"\xff\xd8\xff")

_START = b"\xff\xd8"
_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP14, _APP15 = 0xE0, 0xE1, 0xEE, 0xEF
# Baseline, extended and progressive, Huffman or arithmetic: the processes that common decoders know.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
# Huffman, arithmetic and quantisation tables, number of lines, restart interval.
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
# TEM and the restart markers: they have no length, and mean nothing outside a scan.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})

# Fill bytes may stand before a marker (B.1.1.2); libjpeg skips other bytes too, which some cameras leave there.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
# In a scan 0xFF is followed by 0x00 if it is data; bare markers and fill bytes belong to the scan as well.
_END_OF_SCAN = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_JFIF, _JFIF_BYTES = b"JFIF\0", 14
_ADOBE, _ADOBE_BYTES = b"Adobe", 12
_MAX_SEGMENTS = 1024
"""An honest file has some dozens: a segment can hold 64 KiB."""
_MAX_SCANS = 100
"""Progressive files have about ten. Each is a pass over all pixels for a decoder; libtiff stops at the same number."""

_Bytes = bytes | memoryview
_Segment = tuple[int, memoryview, memoryview]


def inspect(data: bytes) -> Picture:
    """Raises ImageError, IndexError and struct.error for what is no whole JPEG."""
    segments = list(_segments(data))
    parts: list[_Bytes] = [_START, _minimal_exif(segments)]
    size: tuple[int, int] | None = None
    scans = 0
    for marker, payload, scan in segments:
        if marker in _FRAMES:
            size = _frame_size(payload, size)
        scans += marker == _SOS
        if (scans and not size) or scans > _MAX_SCANS:
            raise damaged()
        kept = _kept(marker, payload)
        if kept is not None:
            parts += (_header(marker, kept), kept, scan)
    if not scans or not size:
        raise damaged()
    parts.append(bytes((0xFF, _EOI)))
    return Picture(mime="image/jpeg", width=size[0], height=size[1], data=b"".join(parts))


def _segments(data: bytes) -> Iterator[_Segment]:
    """Every marker with its segment's payload and, if it starts a scan, the entropy-coded data behind it."""
    view, position, budget = memoryview(data), len(_START), PartBudget(_MAX_SEGMENTS)
    while True:
        budget.spend()
        found = _MARKER.search(data, position)
        if not found:
            raise damaged()
        marker, position = found[1][0], found.end()
        if marker == _EOI:
            return
        if marker not in _BARE:
            end = _segment_end(data, position)
            next_marker = _scan_end(data, end) if marker == _SOS else end
            yield marker, view[position + 2 : end], view[end:next_marker]
            position = next_marker


def _segment_end(data: bytes, position: int) -> int:
    (length,) = struct.unpack_from(">H", data, position)
    if length < 2:
        raise damaged()
    return position + int(length)


def _scan_end(data: bytes, position: int) -> int:
    found = _END_OF_SCAN.search(data, position)
    if not found:
        raise damaged()
    return found.start()


def _frame_size(payload: memoryview, before: tuple[int, int] | None) -> tuple[int, int]:
    _precision, height, width, components = struct.unpack_from(">BHHB", payload)
    if before or not components or len(payload) != 6 + 3 * components:
        raise damaged()
    return check_size(width, height)


def _kept(marker: int, payload: memoryview) -> _Bytes | None:
    """What stays of a segment's payload; None drops the segment."""
    if marker in _FRAMES or marker in _TABLES or marker == _SOS:
        return payload
    if marker == _APP0 and payload[:5] == _JFIF and len(payload) >= _JFIF_BYTES:
        return bytes(payload[: _JFIF_BYTES - 2]) + b"\0\0"  # density stays, a thumbnail of 0 x 0 pixels follows
    if marker == _APP14 and payload[:5] == _ADOBE and len(payload) >= _ADOBE_BYTES:
        return payload[:_ADOBE_BYTES]  # says which colours the components are
    if marker == _COM or _APP0 <= marker <= _APP15:
        return None
    raise damaged()


def _header(marker: int, payload: _Bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2)


def _minimal_exif(segments: list[_Segment]) -> bytes:
    """An EXIF segment with the orientation of the first one, which has to stand before the pixels to count."""
    head = itertools.takewhile(lambda segment: segment[0] != _SOS, segments)
    blocks = (payload for marker, payload, _ in head if marker == _APP1 and payload[:6] == orientation.EXIF_HEADER)
    turned = next(map(orientation.read, blocks), orientation.UPRIGHT)
    if turned == orientation.UPRIGHT:
        return b""
    exif = orientation.EXIF_HEADER + orientation.minimal(turned)
    return _header(_APP1, exif) + exif

"""PNG and APNG (W3C PNG, third edition): chunks of length, type, data and CRC.

The CRC of every chunk that is kept is checked, though it costs as much as the rest: decoders refuse a wrong one,
and it is the only way to see a damaged upload without decoding.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

from engine_grpc.image import orientation
from engine_grpc.image.picture import PartBudget, Picture, check_size, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAGIC = re.compile(re.escape(_SIGNATURE))

_HEADER, _PALETTE, _PIXELS, _END, _EXIF = b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf"
_ANY = 2**31
# What is drawn, and how many bytes of it there can be: pixels, palette and transparency, colour, background, pixel
# shape, and the animation.
_KEPT = {
    _PALETTE: 768,
    _PIXELS: _ANY,
    _END: 0,
    b"tRNS": 256,
    b"bKGD": 6,
    b"pHYs": 9,
    b"gAMA": 4,
    b"cHRM": 32,
    b"sRGB": 1,
    b"cICP": 4,
    b"sBIT": 4,
    b"acTL": 8,
    b"fcTL": 26,
    b"fdAT": _ANY,
}
# Bit depths by colour type (11.2.1, table 12).
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_FRAME_BYTES = 12  # length, type and CRC
_LOWER_CASE = 0x20


def inspect(data: bytes) -> Picture:
    """Raises ImageError, IndexError and struct.error for what is no whole PNG."""
    chunks = _chunks(data)
    kind, header = next(chunks)
    if kind != _HEADER:
        raise damaged()
    width, height = _size(header)
    exif: bytes | None = None
    parts: list[bytes | memoryview] = []
    seen = set()
    for kind, chunk in chunks:
        seen.add(kind)
        if len(chunk) - _FRAME_BYTES <= _KEPT.get(kind, -1):
            parts.append(_checked(chunk))
        elif kind == _EXIF:
            exif = _minimal_exif(chunk) if exif is None else exif  # decoders ignore a second one
        elif not kind[0] & _LOWER_CASE:  # a critical chunk that nobody knows, or a second header
            raise damaged()
    if _PIXELS not in seen:
        raise damaged()
    # Decoders expect the EXIF before the pixels.
    data = b"".join((_SIGNATURE, _checked(header), exif or b"", *parts))
    return Picture(mime="image/png", width=width, height=height, data=data)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and whole bytes of each chunk, to the end chunk; what follows it is no part of the picture."""
    view, position, kind, budget = memoryview(data), len(_SIGNATURE), b"", PartBudget()
    while kind != _END:
        budget.spend()
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + _FRAME_BYTES + length
        if end > len(data):
            raise damaged()
        yield kind, view[position:end]
        position = end


def _checked(chunk: memoryview) -> memoryview:
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        raise damaged()
    return chunk


def _size(header: memoryview) -> tuple[int, int]:
    length, _kind, width, height, depth, colour = struct.unpack_from(">I4sIIBB", header)
    if length != 13 or depth not in _DEPTHS.get(colour, ()):
        raise damaged()
    return check_size(width, height)


def _minimal_exif(chunk: memoryview) -> bytes:
    turned = orientation.read(chunk[8:-4])
    if turned == orientation.UPRIGHT:
        return b""
    tiff = orientation.minimal(turned)
    return struct.pack(">I", len(tiff)) + _EXIF + tiff + struct.pack(">I", zlib.crc32(_EXIF + tiff))

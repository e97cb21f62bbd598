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
# Transparency, colour, background, pixel shape, and the animation.
_DRAWN = frozenset(
    {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT"}
)
_KEPT = _DRAWN | {_PALETTE, _PIXELS, _END}
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
    parts: list[bytes | memoryview] = [_SIGNATURE, _checked(header), b""]
    seen = set()
    for kind, chunk in chunks:
        seen.add(kind)
        if kind in _KEPT:
            parts.append(_checked(chunk))
        elif kind == _EXIF:
            parts[2] = _minimal_exif(chunk)  # decoders expect it before the pixels
        elif not kind[0] & _LOWER_CASE:  # a critical chunk that nobody knows, or a second header
            raise damaged()
    if _PIXELS not in seen:
        raise damaged()
    return Picture(mime="image/png", width=width, height=height, data=b"".join(parts))


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

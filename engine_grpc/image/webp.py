"""WebP (RFC 9649): a RIFF container around VP8 or VP8L bitstreams.

A simple file is one bitstream. An extended one starts with a VP8X chunk, whose flags announce what else there is
and are rewritten with what is left. Sizes are checked against the bitstreams', since those are what gets decoded.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from engine_grpc.image import orientation
from engine_grpc.image.picture import PartBudget, Picture, check_size, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = re.compile(rb"RIFF....WEBP", re.DOTALL)

_LOSSY, _LOSSLESS, _EXTENDED, _FRAME, _EXIF = b"VP8 ", b"VP8L", b"VP8X", b"ANMF", b"EXIF"
_BITSTREAMS = frozenset({_LOSSY, _LOSSLESS})
_KEPT_STILL = frozenset({b"ALPH", *_BITSTREAMS})
_LOOP, _LOOP_BYTES = b"ANIM", 6
_KEPT_ANIMATED = frozenset({_LOOP, _FRAME})
_KEPT_IN_FRAME = frozenset({b"ALPH", *_BITSTREAMS})
_ALPHA_FLAG, _EXIF_FLAG, _ANIMATION_FLAG = 0x10, 0x08, 0x02
_KEPT_FLAGS = _ALPHA_FLAG | _ANIMATION_FLAG
_RESERVED = b"\0\0\0"
_RIFF_BYTES = 12
_FRAME_HEADER_BYTES = 16

_Bytes = bytes | memoryview
_Chunk = tuple[bytes, memoryview]
_Size = tuple[int, int]


def inspect(data: bytes) -> Picture:
    """Raises ImageError, IndexError and struct.error for what is no whole WebP."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise damaged()
    budget = PartBudget()
    chunks = list(_chunks(memoryview(data)[_RIFF_BYTES:end], budget))
    kind, payload = chunks[0]
    if kind == _EXTENDED:
        size, parts = _extended(chunks, budget)
    else:
        size, parts = check_size(*_bitstream_size(kind, payload)), _written(kind, payload)
    content = sum(map(len, parts))
    riff = b"RIFF" + struct.pack("<I", 4 + content) + b"WEBP"
    return Picture(mime="image/webp", width=size[0], height=size[1], data=b"".join((riff, *parts)))


def _chunks(view: memoryview, budget: PartBudget) -> Iterator[_Chunk]:
    position = 0
    while position < len(view):
        budget.spend()
        kind, length = struct.unpack_from("<4sI", view, position)
        start, end = position + 8, position + 8 + length
        if end > len(view):
            raise damaged()
        yield kind, view[start:end]
        position = end + length % 2


def _written(kind: bytes, *payload: _Bytes) -> list[_Bytes]:
    length = sum(map(len, payload))
    return [kind + struct.pack("<I", length), *payload, b"\0" * (length % 2)]


def _extended(chunks: list[_Chunk], budget: PartBudget) -> tuple[_Size, list[_Bytes]]:
    header = chunks[0][1]
    flags, width, height = header[0], _uint24(header, 4) + 1, _uint24(header, 7) + 1
    canvas = check_size(width, height)
    body = _animation(chunks[1:], canvas, budget) if flags & _ANIMATION_FLAG else _still(chunks[1:], canvas)
    exif = _minimal_exif(chunks)
    flags = flags & _KEPT_FLAGS | (_EXIF_FLAG if exif else 0)
    return canvas, _written(_EXTENDED, bytes((flags,)), _RESERVED, header[4:10]) + body + exif


def _still(chunks: list[_Chunk], canvas: _Size) -> list[_Bytes]:
    _check_bitstreams(chunks, canvas)
    return [part for kind, payload in chunks if kind in _KEPT_STILL for part in _written(kind, payload)]


def _animation(chunks: list[_Chunk], canvas: _Size, budget: PartBudget) -> list[_Bytes]:
    parts: list[_Bytes] = []
    for kind, payload in chunks:
        if kind in _KEPT_ANIMATED:
            kept = _frame(payload, canvas, budget) if kind == _FRAME else [payload[:_LOOP_BYTES]]
            parts += _written(kind, *kept)
    if not any(kind == _FRAME for kind, _ in chunks):
        raise damaged()
    return parts


def _frame(payload: memoryview, canvas: _Size, budget: PartBudget) -> list[_Bytes]:
    x, y, width, height = (_uint24(payload, at) for at in (0, 3, 6, 9))
    size = width + 1, height + 1
    if 2 * x + size[0] > canvas[0] or 2 * y + size[1] > canvas[1]:
        raise damaged()
    chunks = list(_chunks(payload[_FRAME_HEADER_BYTES:], budget))
    _check_bitstreams(chunks, size)
    kept = [part for kind, inner in chunks if kind in _KEPT_IN_FRAME for part in _written(kind, inner)]
    return [payload[:_FRAME_HEADER_BYTES], *kept]


def _check_bitstreams(chunks: list[_Chunk], size: _Size) -> None:
    """Exactly one, of just this size: decoders refuse anything else."""
    if [_bitstream_size(kind, payload) for kind, payload in chunks if kind in _BITSTREAMS] != [size]:
        raise damaged()


def _bitstream_size(kind: bytes, payload: memoryview) -> _Size:
    if kind == _LOSSY:
        return _lossy_size(payload)
    (signature, bits) = struct.unpack_from("<BI", payload)
    if kind != _LOSSLESS or signature != 0x2F or bits >> 29:
        raise damaged()
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _lossy_size(payload: memoryview) -> _Size:
    """The key frame's header (RFC 6386, 9.1); its first partition has to be there in full."""
    tag, (start, width, height) = _uint24(payload, 0), struct.unpack_from("<3sHH", payload, 3)
    if tag & 1 or start != b"\x9d\x01\x2a" or 10 + (tag >> 5) > len(payload):
        raise damaged()
    return width & 0x3FFF, height & 0x3FFF


def _minimal_exif(chunks: list[_Chunk]) -> list[_Bytes]:
    turned = next((orientation.read(payload) for kind, payload in chunks if kind == _EXIF), orientation.UPRIGHT)
    return [] if turned == orientation.UPRIGHT else _written(_EXIF, orientation.minimal(turned))


def _uint24(view: memoryview, position: int) -> int:
    low, high = struct.unpack_from("<HB", view, position)
    return int(low | high << 16)

"""Picture files that are made to cost: each is small, or at the size limit, and asks for far more than it holds."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

from engine_grpc.question import MAX_IMAGE_BYTES
from tests.engine import pictures as make
from tests.engine.pictures import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _SMALL_PNG = b"\xff\xd8", KINDS["png"][:33]
_WHOLE_JPEG = KINDS["jpeg"][: KINDS["jpeg"].rindex(b"\xff\xd9")]
_GIF_SCREEN = struct.pack("<6sHHBBB", b"GIF89a", 3, 2, 0, 0, 0)
_GIF_IMAGE = b",\0\0\0\0\1\0\1\0\0\2\1\0\0"
_WEBP_STILL, _WEBP_ANIMATED = make.riff_chunk(b"VP8X", b"\0" * 10), make.riff_chunk(b"VP8X", b"\2" + b"\0" * 9)
_ONE_PIXEL = make.riff_chunk(b"VP8L", b"\x2f\0\0\0\0")
_SCAN = make.jpeg_segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0"
_WIDE_DIRECTORY = b"MM\0*\0\0\0\x08\xff\xff"
"""A TIFF directory that announces 65,535 fields."""
_LOOPED_DIRECTORY = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
"""A TIFF directory whose sub-directory, and whose next directory, is itself."""


_ROOM = 64
"""For what is put around the parts."""


def _filled(part: bytes, head: bytes = b"", tail: bytes = b"") -> bytes:
    """As many of a part as fit into the largest picture that is taken."""
    return head + part * ((MAX_IMAGE_BYTES - _ROOM - len(head) - len(tail)) // len(part)) + tail


def _deflated_zeros() -> bytes:
    """200 MB in 200 kB."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    return PNG + make.png_header(width, height) + b"".join(chunks) + make.png_chunk(b"IEND")


def refused_bombs() -> dict[str, Callable[[], bytes]]:
    """Files that no part of the service may follow to their end."""
    huge_frame = make.jpeg_segment(0xC0, struct.pack(">BHHBBBB", 8, 65_535, 65_535, 1, 1, 0x11, 0))
    canvas = (16_383).to_bytes(3, "little") * 2
    huge_webp = make.riff_chunk(b"VP8L", struct.pack("<BI", 0x2F, 0x0FFF_FFFF))
    return {
        "png 60000 x 60000": lambda: _png(60_000, 60_000, make.png_chunk(b"IDAT", b"\0" * 100)),
        "png 60000 x 60000 deflated": lambda: _png(60_000, 60_000, make.png_chunk(b"IDAT", _deflated_zeros())),
        "png dropped chunks": lambda: _filled(make.png_chunk(b"prVt"), _SMALL_PNG),
        "png pixel chunks": lambda: _filled(make.png_chunk(b"IDAT"), _SMALL_PNG),
        "png frame chunks": lambda: _filled(make.png_chunk(b"fdAT"), _SMALL_PNG),
        "png wide exif": lambda: _filled(make.png_chunk(b"eXIf", _WIDE_DIRECTORY + b"\0" * 200), _SMALL_PNG),
        "png large exif": lambda: _filled(make.png_chunk(b"eXIf", _WIDE_DIRECTORY + b"\0" * 786_420), _SMALL_PNG),
        "jpeg 65535 x 65535": lambda: _JPEG_START + huge_frame + _SCAN + b"\xff\xd9",
        "jpeg comments": lambda: _filled(b"\xff\xfe\0\2", _JPEG_START),
        "jpeg tables": lambda: _filled(make.jpeg_segment(0xDB, b""), _JPEG_START),
        "jpeg scans": lambda: _filled(_SCAN, _WHOLE_JPEG),
        "jpeg thousands of scans": lambda: _WHOLE_JPEG + _SCAN * 4000 + b"\xff\xd9",
        "jpeg fill bytes": lambda: _filled(b"\xff", _JPEG_START),
        "jpeg padding": lambda: _filled(b"\xff" * 1000 + b"\0", _JPEG_START + b"\xff\xfe\0\2"),
        "jpeg stuffing": lambda: _filled(b"\xff\0", _WHOLE_JPEG),
        "jpeg restart markers": lambda: _filled(b"\xff\xd0", _WHOLE_JPEG),
        "jpeg bare markers": lambda: _filled(b"\xff\xd0", _JPEG_START),
        "jpeg exif": lambda: _filled(make.jpeg_segment(0xE1, b"Exif\0\0" + _WIDE_DIRECTORY + b"\0" * 100), _JPEG_START),
        "webp 16384 x 16384": lambda: make.riff(make.riff_chunk(b"VP8X", b"\0\0\0\0" + canvas), huge_webp),
        "webp simple 16384 x 16384": lambda: make.riff(huge_webp),
        "webp chunks": lambda: make.riff(_filled(make.riff_chunk(b"prVt", b""))),
        "webp extended chunks": lambda: make.riff(_WEBP_STILL, _filled(make.riff_chunk(b"prVt", b""))),
        "webp frames": lambda: make.riff(_WEBP_ANIMATED, _filled(make.riff_chunk(b"ANMF", b"\0" * 16 + _ONE_PIXEL))),
        "webp frame of chunks": lambda: make.riff(
            _WEBP_ANIMATED, make.riff_chunk(b"ANMF", b"\0" * 16 + _filled(make.riff_chunk(b"prVt", b"")))
        ),
        "gif 65535 x 65535": lambda: struct.pack("<6sHHBBB", b"GIF89a", 65_535, 65_535, 0, 0, 0) + _GIF_IMAGE + b";",
        "gif frame of 65535 x 65535": lambda: (
            _GIF_SCREEN + struct.pack("<BHHHHB", 0x2C, 0, 0, 65_535, 65_535, 0) + b"\2\1\0\0;"
        ),
        "gif frames": lambda: _filled(_GIF_IMAGE, _GIF_SCREEN),
        "gif sub-blocks": lambda: _filled(b"\1x", _GIF_SCREEN + b"!\xfe"),
        "gif extensions": lambda: _filled(b"!\xfe\0", _GIF_SCREEN),
        "gif loops": lambda: _filled(b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", _GIF_SCREEN),
        "nothing known": lambda: os.urandom(MAX_IMAGE_BYTES - 1),
    }


def defused_bombs() -> dict[str, Callable[[], bytes]]:
    """Files that are pictures, once what they carry is cut out."""
    pixels = make.png_chunk(b"IDAT", zlib.compress(bytes(24 * (1 + 3 * 40))))
    return {
        "png colour profile": lambda: _png(40, 24, make.png_chunk(b"iCCP", b"p\0\0" + _deflated_zeros()), pixels),
        "png texts": lambda: _png(40, 24, make.png_chunk(b"zTXt", b"t\0\0" + _deflated_zeros()) * 10, pixels),
        "png looped exif": lambda: _png(40, 24, make.png_chunk(b"eXIf", _LOOPED_DIRECTORY) * 1000, pixels),
        "jpeg looped exif": lambda: (
            _JPEG_START + make.jpeg_segment(0xE1, b"Exif\0\0" + _LOOPED_DIRECTORY) * 1000 + KINDS["jpeg"][2:]
        ),
        "webp looped exif": lambda: make.riff(
            make.riff_chunk(b"VP8X", b"\x08\0\0\0\x27\0\0\x17\0\0"),
            KINDS["webp simple"][12:],
            make.riff_chunk(b"EXIF", _LOOPED_DIRECTORY) * 1000,
        ),
        "gif comments": lambda: _filled(
            make.gif_extension(0xFE, b"x" * 255), _GIF_SCREEN, b",\0\0\0\0\3\0\2\0\0\2\3\x44\x02\x05\0;"
        ),
    }

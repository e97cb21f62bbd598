"""The one EXIF field that is kept: how to turn the picture (EXIF 2.32, 4.6.4 A; TIFF 6.0, section 2)."""

from __future__ import annotations

import struct

UPRIGHT = 1
EXIF_HEADER = b"Exif\0\0"
_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_SHORT = 3
_FIELD_FORMATS = {_SHORT: "H", 4: "I"}
_ENTRY_BYTES = 12
_MAX_ENTRIES = 1000
"""An honest directory has some dozens of fields, a hostile one announces 65,535 of them in every block."""


def read(exif: memoryview) -> int:
    """The orientation, 1 to 8, in an EXIF block with or without its `Exif` header.

    Phones write all kinds of EXIF, and decoders ignore what they cannot read: so does this, and says upright.
    """
    tiff = exif[len(EXIF_HEADER) :] if exif[: len(EXIF_HEADER)] == EXIF_HEADER else exif
    order = _BYTE_ORDERS.get(bytes(tiff[:4]))
    if order is None:
        return UPRIGHT
    try:
        value = _field(tiff, order)
    except struct.error:  # a directory that lies outside the block
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def minimal(orientation: int) -> bytes:
    """A TIFF block with one directory with one entry: the orientation."""
    header = b"MM\0*" + struct.pack(">I", 8)
    return header + struct.pack(">HHHIHHI", 1, _ORIENTATION, _SHORT, 1, orientation, 0, 0)


def _field(tiff: memoryview, order: str) -> int:
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    first, read = directory + 2, min(entries, _MAX_ENTRIES)
    for position in range(first, first + read * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, kind = struct.unpack_from(order + "HH", tiff, position)
        if tag == _ORIENTATION and kind in _FIELD_FORMATS:
            return int(struct.unpack_from(order + _FIELD_FORMATS[kind], tiff, position + 8)[0])
    return UPRIGHT

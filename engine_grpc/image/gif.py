"""GIF (GIF89a specification): a screen, then blocks of images and extensions, then a trailer.

Comments, application data (XMP among it) and text blocks are dropped; the loop count of an animation stays.
"""

from __future__ import annotations

import re
import struct

from engine_grpc.image.picture import PartBudget, Picture, check_size, damaged

MAGIC = re.compile(rb"GIF8[79]a")

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_PLAIN_TEXT, _GRAPHIC_CONTROL, _APPLICATION = 0x01, 0xF9, 0xFF
_GRAPHIC_CONTROL_BYTES, _GRAPHIC_CONTROL_DATA = 8, 4
_LOOPS = frozenset({b"\x0bNETSCAPE2.0", b"\x0bANIMEXTS1.0"})
_LOOP_COUNT = b"\x03\x01"
_MAX_PARTS = 32_768
"""More than the other formats': pixels come in sub-blocks of at most 255 bytes, each of them a part."""
_SCREEN_BYTES = 13
_IMAGE_HEADER_BYTES = 10


def inspect(data: bytes) -> Picture:
    """Raises ImageError, IndexError and struct.error for what is no whole GIF."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    return _Walk(data, width, height, _SCREEN_BYTES + _table_bytes(flags)).picture()


class _Walk:
    """One pass over the blocks of a file, collecting what is kept."""

    def __init__(self, data: bytes, width: int, height: int, position: int) -> None:
        self._data, self._view, self._position = data, memoryview(data), position
        self._width, self._height = width, height
        self._parts: list[bytes | memoryview] = [self._view[:position]]
        self._control: bytes | memoryview = b""
        self._images = 0
        self._budget = PartBudget(_MAX_PARTS)

    def picture(self) -> Picture:
        while (block := self._data[self._position]) != _TRAILER:
            self._budget.spend()
            if block == _IMAGE:
                self._image()
            elif block == _EXTENSION:
                self._extension()
            else:
                raise damaged()
        if not self._images:
            raise damaged()
        width, height = check_size(self._width, self._height)
        data = b"".join((*self._parts, bytes((_TRAILER,))))
        return Picture(mime="image/gif", width=width, height=height, data=data)

    def _image(self) -> None:
        x, y, width, height, flags = struct.unpack_from("<HHHHB", self._data, self._position + 1)
        # Decoders draw an image that is larger than the screen, or a screen of no size, by enlarging the screen.
        self._width, self._height = max(self._width, x + width), max(self._height, y + height)
        self._images += 1
        code_size = self._position + _IMAGE_HEADER_BYTES + _table_bytes(flags)
        self._parts += (self._control, self._take(code_size + 1))
        self._control = b""

    def _extension(self) -> None:
        label, start = self._data[self._position + 1], self._position + 2
        extension = self._take(start)
        if label == _GRAPHIC_CONTROL:
            if len(extension) != _GRAPHIC_CONTROL_BYTES or extension[2] != _GRAPHIC_CONTROL_DATA:
                raise damaged()
            self._control = extension  # waits for its image: dropped blocks may stand between
        elif label == _PLAIN_TEXT:
            self._control = b""  # was meant for the text
        elif label == _APPLICATION and extension[2:14] in _LOOPS and extension[14:16] == _LOOP_COUNT:
            self._parts += (extension[:18], b"\0")

    def _take(self, position: int) -> memoryview:
        """The block from here to the end of its sub-blocks, the first of which is at `position`."""
        begin, data = self._position, self._data
        while length := data[position]:
            self._budget.spend()
            position += length + 1
        self._position = position + 1
        return self._view[begin : self._position]


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0

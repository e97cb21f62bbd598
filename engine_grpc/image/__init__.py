"""What a picture is, from its bytes alone, and the same picture without its metadata.

Nothing is ever decoded: the type comes from the magic bytes, the size from the header, and metadata (where a
photo was taken, by which phone, whose name) is cut out of the container, so the pixels stay bit by bit as they
were. Only the orientation is kept, since a page photographed sideways is unreadable without it. Colour profiles go
too: a screenshot's names the display, by whatever name its owner gave it.

Each format's module walks its container by the rule "keep what is known to be drawn, drop the rest", so that
metadata of kinds yet to be invented is dropped too.
"""

from __future__ import annotations

import struct

from engine_grpc.image import gif, jpeg, png, webp
from engine_grpc.image.picture import MAX_PIXELS, ImageError, Picture, damaged

__all__ = ["MAX_PIXELS", "ImageError", "Picture", "inspect"]

_FORMATS = (
    (jpeg.MAGIC, jpeg.inspect),
    (png.MAGIC, png.inspect),
    (webp.MAGIC, webp.inspect),
    (gif.MAGIC, gif.inspect),
)


def inspect(data: bytes) -> Picture:
    """Tell type and size of a picture file and strip its metadata.

    Takes time and memory in proportion to the file (about one copy of it), whatever it contains.

    Raises:
        ImageError: the file is empty, of none of the four types, damaged, cut off, or of more than `MAX_PIXELS`.
    """
    if not data:
        raise ImageError("The image is empty.")
    for magic, walk in _FORMATS:
        if magic.match(data):
            try:
                return walk(data)
            except (IndexError, struct.error):  # a read behind the end: the file is cut off
                raise damaged() from None
    raise ImageError("The image is not a JPEG, PNG, WebP or GIF file.")

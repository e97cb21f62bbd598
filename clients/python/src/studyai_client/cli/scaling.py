"""Scales a photograph down to what a page can be read from, upright, as a JPEG."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps

_SIDES = (2000, 1400, 1000)
"""Pixels of the longer side: the first at which it fits. More shows a model nothing more of a page."""
_QUALITY = 85
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


def scaled(image: bytes, room: int) -> tuple[bytes, tuple[int, int]] | None:
    """Returns the smaller picture and its width and height in pixels.

    Args:
        image: A picture's file.
        room: How many bytes there may be.

    Returns:
        None where the picture cannot be read, has too many pixels, or does not fit.
    """
    try:
        upright = _upright(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow's for a file that is broken
        return None
    for side in _SIDES:
        upright.thumbnail((side, side))
        written = io.BytesIO()
        upright.save(written, "JPEG", quality=_QUALITY)
        if written.tell() <= room:
            return written.getvalue(), upright.size
    return None


def _upright(image: bytes) -> Image.Image:
    """Returns a picture as its camera noted that it is to be looked at, on white where it is transparent."""
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        opened = Image.open(io.BytesIO(image), formats=_FORMATS)
        seen = ImageOps.exif_transpose(opened)
    if not seen.has_transparency_data:
        return seen.convert("RGB")
    seen = seen.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")

"""What the four formats have in common: the result, the refusals, and the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_PIXELS = 50_000_000
"""The largest picture taken, in pixels of its whole canvas."""

Mime = Literal["image/jpeg", "image/png", "image/webp", "image/gif"]


class ImageError(ValueError):
    """The picture is refused; the message is a fixed sentence, fit to show, with nothing of the file in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture fit to be sent on."""

    mime: Mime
    """From the magic bytes, whatever the sender called it."""
    width: int
    """In pixels as stored, before any rotation by the orientation."""
    height: int
    data: bytes
    """The file without its metadata."""


class PartBudget:
    """Ends a file that is nothing but containers.

    An honest file has some hundreds of parts (segments, chunks), a large animation some thousands; a hostile one has
    a part in every fourth byte, and would cost a second of time.
    """

    def __init__(self, parts: int = 8192) -> None:
        self._left = parts

    def spend(self) -> None:
        """Count one part.

        Raises:
            ImageError: there were too many.
        """
        self._left -= 1
        if self._left < 0:
            raise damaged()


def damaged() -> ImageError:
    """The error for a file whose structure no decoder would follow to its end."""
    return ImageError("The image file is damaged or incomplete.")


def check_size(width: int, height: int) -> tuple[int, int]:
    """Return the size.

    Raises:
        ImageError: it is zero, or more than `MAX_PIXELS`.
    """
    if not width or not height:
        raise damaged()
    if width * height > MAX_PIXELS:
        raise ImageError(f"The image has more than {MAX_PIXELS // 1_000_000} megapixels.")
    return width, height

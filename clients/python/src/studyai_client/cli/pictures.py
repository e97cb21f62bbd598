"""A picture that the service takes: photographs of phones are larger than that, and are scaled down here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studyai_client.question import MAX_BYTES, is_picture, load_picture, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from studyai_client.question import Picture

ROOM_OVER_GRPC = MAX_BYTES
ROOM_OVER_HTTP = (MAX_BYTES - 32 * 1024) * 3 // 4
"""Bytes: base64 adds a third, and the longest question takes less than 32 KiB."""
_LARGEST = 64 * 1024 * 1024
"""Bytes of a file that are read; no camera writes more."""


def fitted(picture: Picture | None, room: int, tell: Callable[[str], None]) -> bytes:
    """Returns a picture's bytes, scaled down if there are more than there is room for; none for None.

    Args:
        picture: As the client takes it.
        room: How many bytes there may be.
        tell: Is told in a sentence when it was scaled.

    Raises:
        OSError: The file cannot be read.
        ImageUnreadableError: It is empty, or no JPEG, PNG, WebP or GIF.
        PayloadTooLargeError: It is too large, and cannot be scaled.
    """
    if picture is None:
        return b""
    image = read(picture, _LARGEST)
    if not (room < len(image) <= _LARGEST and is_picture(image)):
        return load_picture(image)
    from studyai_client.cli.scaling import scaled  # noqa: PLC0415 - few pictures need it, and it takes a while to load

    made, size = scaled(image, room) or (load_picture(image), None)
    if size:
        tell(f"The picture has {len(image) / 1e6:.1f} MB: scaled down to {size[0]} × {size[1]} pixels.")
    return made

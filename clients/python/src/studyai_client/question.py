"""A question, checked before anything is sent: what the service would refuse costs no upload."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from studyai_client.errors import ImageUnreadableError, InvalidRequestError, PayloadTooLargeError

MAX_BYTES = 3 * 1024 * 1024
"""Of a picture over gRPC, and of a request's body, which holds the picture in base64, over HTTP."""
_MAX_PROMPT = 4000
_MAX_SUBJECT = 64
_ID = re.compile(r"[A-Za-z0-9_.:-]{0,128}")
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP", re.DOTALL)
"""How a JPEG, PNG, GIF and WebP file begins."""


class BinaryFile(Protocol):
    """What a picture may be read from: an open file, `sys.stdin.buffer`, `io.BytesIO`."""

    def read(self, size: int = -1, /) -> bytes:
        """Returns at most so many bytes, and none at the end."""


Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile
"""A path, the file's bytes, or an open binary file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a student asks, and the key that names it.

    Raises:
        InvalidRequestError: A field is not as the service wants it.
    """

    image: bytes
    """Empty where the session has a picture."""
    prompt: str
    key: str
    """The idempotency key."""
    subject: str = ""
    session_id: str = ""
    student_id: str = ""

    def __post_init__(self) -> None:
        _require(1 <= len(self.prompt.strip()) <= _MAX_PROMPT, f"prompt: 1 to {_MAX_PROMPT:,} characters")
        # What an argument in another encoding than the locale's comes as; neither wire can carry it.
        for name in ("prompt", "subject"):
            _require(not _SURROGATE.search(getattr(self, name)), f"{name}: there are letters in it that are not UTF-8")
        _require(len(self.subject) <= _MAX_SUBJECT, f"subject: at most {_MAX_SUBJECT} characters")
        _require(bool(_KEY.fullmatch(self.key)), "key: 1 to 128 visible ASCII characters")
        for name in ("session_id", "student_id"):
            check_id(name, getattr(self, name))


def check_id(name: str, value: str) -> None:
    """Checks a session's or a student's id.

    Raises:
        InvalidRequestError: It is none.
    """
    _require(bool(_ID.fullmatch(value)), f"{name}: at most 128 letters, digits and _ . : -")


def load_picture(picture: Picture | None) -> bytes:
    """Returns a picture's bytes; none for None.

    Raises:
        OSError: The file cannot be read.
        TypeError: It is none of these.
        ImageUnreadableError: It is empty, or no JPEG, PNG, WebP or GIF.
        PayloadTooLargeError: It is larger than the service takes. No more than that is read.
    """
    if picture is None:
        return b""
    image = read(picture, MAX_BYTES)
    if len(image) > MAX_BYTES:
        raise too_large("The picture")
    if not is_picture(image):
        raise ImageUnreadableError("The picture is no JPEG, PNG, WebP or GIF." if image else "The picture is empty.")
    return image


def too_large(what: str) -> PayloadTooLargeError:
    """Returns the error for more than the limit."""
    return PayloadTooLargeError(f"{what} has more than {MAX_BYTES // 1024**2} MiB: scale the picture down.")


def is_picture(image: bytes) -> bool:
    """Tells whether a file begins as a JPEG, PNG, WebP or GIF."""
    return bool(_MAGIC.match(image))


def read(picture: Picture, most: int) -> bytes:
    """Returns a file's bytes; of one with more than so many, one more.

    Raises:
        OSError: It cannot be read.
        TypeError: It is no picture, whichever way it is held.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        with Path(picture).open("rb") as file:
            return _read_file(file, most)
    if not hasattr(picture, "read"):
        raise TypeError(f"picture: a path, bytes or an open binary file, not {type(picture).__name__}.")
    return _read_file(picture, most)


def _read_file(file: BinaryFile, most: int) -> bytes:
    """Reads to the end or past the limit: a pipe gives less than it is asked for."""
    taken = bytearray()
    while len(taken) <= most and (more := file.read(most + 1 - len(taken))):
        taken += more
    return bytes(taken)


def _require(kept: bool, rule: str) -> None:
    if not kept:
        raise InvalidRequestError(f"{rule}.")

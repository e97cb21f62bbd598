"""What a student may ask: the rules for each field, checked once, before anything else is done."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from engine_grpc.errors import EngineError, Reason

ANONYMOUS = "anonymous"
MAX_PROMPT_CHARACTERS = 4_000
MAX_SUBJECT_CHARACTERS = 64
MAX_IMAGE_BYTES = 3 * 1024 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""All but tab and line ends: nobody types them, and nothing shows that they are there."""
_UNSEEN_KINDS = frozenset({"Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp"})
"""Unicode's categories of characters that show nothing by themselves: spaces, marks, formats, controls."""
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Fillers of Hangul and Braille: letters and a symbol to Unicode, blank to the eye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that keeps the rules of `ImageQuestion` in chat.proto."""

    image: bytes
    """Empty: the session's last."""
    prompt: str
    subject: str
    session_id: str
    """Empty: a new session."""
    student_id: str

    @classmethod
    def checked(cls, *, image: bytes, prompt: str, subject: str, session_id: str, student_id: str) -> Question:
        """Trims, blanks control characters, fills in defaults and checks.

        Raises:
            EngineError: INVALID_REQUEST or PAYLOAD_TOO_LARGE, naming the field.
        """
        return cls(
            image=_checked_image(image),
            prompt=_checked_prompt(prompt.strip()),
            subject=_checked_subject(subject.strip()) or "general",
            session_id=checked_id("question.session_id", session_id),
            student_id=checked_id("question.student_id", student_id) or ANONYMOUS,
        )

    def fingerprint(self) -> bytes:
        """32 bytes that another question of the same student does not share. Takes a millisecond for a large one."""
        digest = hashlib.sha256()
        for part in (self.image, self.prompt.encode(), self.subject.encode(), self.session_id.encode()):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
        return digest.digest()


def checked_id(field: str, value: str) -> str:
    """Returns a student's or a session's name, empty for none. `field` is its path in the request.

    Raises:
        EngineError: INVALID_REQUEST.
    """
    if value and not _ID.fullmatch(value):
        rule = f"The {field.rpartition('.')[2]} may have at most 128 characters of letters, digits and _ . : -"
        raise EngineError(Reason.INVALID_REQUEST, rule, field=field)
    return value


def checked_key(key: str) -> str:
    """Returns an idempotency key, empty for none.

    Raises:
        EngineError: INVALID_REQUEST.
    """
    if key and not _KEY.fullmatch(key):
        raise EngineError(
            Reason.INVALID_REQUEST,
            "The idempotency key may have at most 128 visible ASCII characters.",
            field="request_id",
        )
    return key


def _cleaned(text: str) -> str:
    return _CONTROLS.sub(" ", text).strip()


def _seen(character: str) -> bool:
    return character not in _UNSEEN and unicodedata.category(character) not in _UNSEEN_KINDS


def _invalid(field: str, message: str) -> EngineError:
    return EngineError(Reason.INVALID_REQUEST, message, field=f"question.{field}")


def _checked_image(image: bytes) -> bytes:
    if len(image) > MAX_IMAGE_BYTES:
        raise EngineError(Reason.PAYLOAD_TOO_LARGE, "The picture may have at most 3 MiB.", field="question.image")
    return image


def _checked_prompt(prompt: str) -> str:
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise _invalid("prompt", f"The prompt may have at most {MAX_PROMPT_CHARACTERS:,} characters.")
    if not any(map(_seen, prompt)):
        raise _invalid("prompt", "The prompt is required.")
    return _cleaned(prompt)


def _checked_subject(subject: str) -> str:
    if len(subject) > MAX_SUBJECT_CHARACTERS:
        raise _invalid("subject", f"The subject may have at most {MAX_SUBJECT_CHARACTERS} characters.")
    return " ".join(_cleaned(subject).split())  # a name: it has one line

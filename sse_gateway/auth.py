"""Who asks: the student that a bearer token (RFC 6750, RFC 7519) names, checked before anything else is read.

The token's `sub` is the student, and no request speaks for another one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import jwt
import structlog
from jwt.exceptions import InvalidSubjectError

from sse_gateway.auth_keys import PUBLIC_KEY_ALGORITHMS, KeyRing, jwks_source, set_key
from sse_gateway.errors import ErrorCode, GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from sse_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

ANONYMOUS = "anonymous"
"""Who asks where nobody says who asks."""

_CHALLENGE = 'Bearer realm="studyai"'
_MAX_TOKEN_CHARACTERS = 8192
_BEARER = re.compile(r"bearer +([A-Za-z0-9_.~+/=-]+)", re.IGNORECASE)
"""See RFC 6750, section 2.1."""
_STUDENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_HASHED = "sha256:"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as that is certain."""

    student_id: str | None = None
    """None where no token is asked for: then the request is believed."""

    def student(self, claimed: str) -> str:
        """Returns whom a request is for.

        Args:
            claimed: Whom it says it is for; empty where it does not say.

        Raises:
            GatewayError: FORBIDDEN: for somebody else than who sent it.
        """
        if self.student_id is None:
            return claimed
        if claimed not in ("", self.student_id):
            raise GatewayError(ErrorCode.FORBIDDEN, "student_id: This is not the token's student. Leave it out.")
        return self.student_id


class BadTokenError(GatewayError):
    """There is no token, or not a good one.

    Args:
        challenge: The value of WWW-Authenticate; see RFC 6750, section 3.
        sentence: As of GatewayError.
    """

    def __init__(self, challenge: str, sentence: str | None = None) -> None:
        super().__init__(ErrorCode.UNAUTHENTICATED, sentence)
        self.challenge = challenge


class Authenticator:
    """Checks tokens. To be entered in the loop it is used in.

    Args:
        keys: That tokens may be signed with.
        issuer: The `iss` they must have, if any.
        audience: What their `aud` must name. Without it a token that is for anybody in particular is refused.
        leeway: Seconds by which the issuer's clock may differ.
    """

    def __init__(self, keys: KeyRing, issuer: str | None, audience: str | None, leeway: float) -> None:
        self._keys = keys
        self._rules: dict[str, Any] = {
            "issuer": issuer,
            "audience": audience,
            "leeway": leeway,
            "options": {"require": ["exp", "sub"], "enforce_minimum_key_length": True},
        }

    async def __aenter__(self) -> Self:
        await self._keys.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._keys.__aexit__(exc_type, exc, traceback)

    async def caller(self, authorization: Sequence[str]) -> Caller:
        """Returns who sends a request.

        Args:
            authorization: Its Authorization headers.

        Raises:
            BadTokenError: Nobody that is known.
            GatewayError: AUTH_UNAVAILABLE: the keys to know that by cannot be read.
        """
        token = _token(authorization)
        try:
            return Caller(_student_id(await self._subject(token)))
        except jwt.PyJWTError as error:
            # The type alone: the text may quote the token.
            log.info("token refused", reason=type(error).__name__)
            expired = isinstance(error, jwt.ExpiredSignatureError)
            raise _invalid("The token has expired." if expired else None) from None

    async def _subject(self, token: str) -> str:
        head = jwt.get_unverified_header(token)
        key = await self._keys.find(head.get("alg"), head.get("kid"))
        if key is None:
            raise jwt.InvalidKeyError
        claims = jwt.decode(token, key.material, algorithms=[key.algorithm], **self._rules)
        subject: str = claims["sub"]
        if not subject:
            raise InvalidSubjectError
        return subject


def authenticator(settings: GatewaySettings) -> Authenticator | None:
    """Returns what checks the tokens, or None where the settings ask for none."""
    keys = _key_ring(settings)
    if keys is None:
        return None
    return Authenticator(keys, settings.auth_jwt_issuer, settings.auth_jwt_audience, settings.auth_jwt_leeway_seconds)


def _key_ring(settings: GatewaySettings) -> KeyRing | None:
    if settings.auth_jwt_jwks:
        return KeyRing(
            source=jwks_source(settings.auth_jwt_jwks, settings.auth_jwt_algorithms or PUBLIC_KEY_ALGORITHMS)
        )
    if settings.auth_jwt_key_file:
        return KeyRing([set_key(settings.auth_jwt_key_file.read_text())])
    return KeyRing([set_key(settings.auth_jwt_key.get_secret_value())]) if settings.auth_jwt_key else None


def _token(authorization: Sequence[str]) -> str:
    bearer = _BEARER.fullmatch(authorization[0].strip()) if len(authorization) == 1 else None
    if bearer is None:
        raise BadTokenError(_CHALLENGE, "A bearer token is required.")
    if len(bearer[1]) > _MAX_TOKEN_CHARACTERS:
        raise _invalid()
    return bearer[1]


def _invalid(sentence: str | None = None) -> BadTokenError:
    return BadTokenError(f'{_CHALLENGE}, error="invalid_token"', sentence)


def _student_id(subject: str) -> str:
    """Returns the student id of a subject: itself where it can be one, else a hash that no other subject has.

    A subject that is called like the anonymous student is none of those, and one that looks like a hash is hashed.
    """
    if _STUDENT_ID.fullmatch(subject) and subject != ANONYMOUS and not subject.startswith(_HASHED):
        return subject
    return _HASHED + hashlib.sha256(subject.encode(errors="surrogatepass")).hexdigest()

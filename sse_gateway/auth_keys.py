"""The keys that tokens are checked with: one that is set, or a set of keys (RFC 7517) that is read again and again.

Each key knows its one algorithm, so that no token chooses how it is checked (RFC 8725, section 3.1).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sse_gateway.errors import ErrorCode, GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

log = structlog.get_logger(__name__)

Algorithm = Literal["HS256", "RS256", "ES256"]
PUBLIC_KEY_ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256")

_SECRET_BYTES = 32
"""As many as HS256's hash has; see RFC 7518, section 3.2."""
_RSA_BITS = 2048
_URL_EVERY_SECONDS = 300
"""A key that is taken out of the set is refused after this long at the latest."""
_FILE_EVERY_SECONDS = 5
_URL_PAUSE_SECONDS = 10
"""Between two fetches that strangers can cause, by naming keys that there are not."""
_FILE_PAUSE_SECONDS = 1
_FETCH_SECONDS = 3
_PEM_HELP = "Must be a public key in PEM (-----BEGIN PUBLIC KEY-----): RSA of 2048 bits or more, or the curve P-256"
_JWKS_HELP = "Must be an https:// address (http:// for this machine alone), or the path of a file"


class Key(NamedTuple):
    """A key, and the one algorithm that it is for."""

    algorithm: str
    material: bytes | RSAPublicKey | EllipticCurvePublicKey
    key_id: str | None = None
    """`kid`; a key without one fits every token of its algorithm."""


class Source(NamedTuple):
    """Where a set of keys is read from."""

    read: Callable[[], list[Key]]
    """Blocks; raises OSError, ValueError, or what PyJWKClient raises."""
    every: float
    """Seconds from one reading to the next."""
    pause: float
    """Seconds that must pass before a token whose key is unknown causes another."""


def set_key(text: str) -> Key:
    """Returns the key that is written in a setting: a shared secret, or a public key in PEM.

    Raises:
        ValueError: It is neither, or too weak. Says what to do.
    """
    if "-----BEGIN" in text:
        return _public_key(text.replace("\\n", "\n"))
    secret = text.strip().encode()
    if len(secret) < _SECRET_BYTES:
        raise ValueError(f"A shared secret must have at least {_SECRET_BYTES} bytes; a public key must be PEM")
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ValueError(_PEM_HELP) from None
    return Key("HS256", secret)


def _public_key(text: str) -> Key:
    if "PRIVATE KEY-----" in text:
        raise ValueError("This is a private key, which only the issuer of the tokens may have: give its public key")
    try:
        key = load_pem_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(_PEM_HELP) from None
    if isinstance(key, RSAPublicKey) and key.key_size >= _RSA_BITS:
        return Key("RS256", key)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return Key("ES256", key)
    raise ValueError(_PEM_HELP)


def jwks_source(where: str, algorithms: Collection[str]) -> Source:
    """Returns the source of the keys at an address, or in a file.

    Args:
        where: `https://…`, `http://…` of this machine, or a path.
        algorithms: Keys for others are left out.

    Raises:
        ValueError: It is none of these.
    """
    if "://" not in where:
        path = Path(where)
        return Source(
            lambda: _keys(json.loads(path.read_bytes()), algorithms), _FILE_EVERY_SECONDS, _FILE_PAUSE_SECONDS
        )
    if not _is_safe(where):
        raise ValueError(_JWKS_HELP)
    client = jwt.PyJWKClient(where, cache_jwk_set=False, timeout=_FETCH_SECONDS, headers={"User-Agent": "studyai-chat"})
    return Source(lambda: _keys(client.fetch_data(), algorithms), _URL_EVERY_SECONDS, _URL_PAUSE_SECONDS)


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can put in keys of their own."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        return parts.scheme == "https" and bool(host) and parts.port != 0
    except ValueError:
        return False


def _keys(document: object, algorithms: Collection[str]) -> list[Key]:
    """Returns the usable keys of a set; see RFC 7517, section 5."""
    try:
        found = jwt.PyJWKSet.from_dict(document).keys if isinstance(document, dict) else []
    except (jwt.PyJWTError, TypeError):
        found = []
    keys = [
        Key(key.algorithm_name, key.key, key.key_id)
        for key in found
        if key.algorithm_name in algorithms and key.public_key_use in (None, "sig")
    ]
    if not keys:
        raise ValueError("There is no usable key in the set")
    return keys


class KeyRing:
    """The keys that tokens may be signed with. To be entered in the loop it is used in.

    While the source cannot be read, the keys that are known stay good.

    Args:
        keys: Known from the start.
        source: Of more; read beside the requests, for none of which it is read twice.
    """

    def __init__(self, keys: Collection[Key] = (), source: Source | None = None) -> None:
        self._keys = keys
        self._source = source
        self._refreshing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._failed = False

    async def __aenter__(self) -> Self:
        if self._source:
            self._refreshing = asyncio.create_task(self._refresh(self._source))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._refreshing, self._reading) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, algorithm: object, key_id: str | None) -> Key | None:
        """Returns the key that a token's head asks for, or None where there is none.

        Raises:
            GatewayError: AUTH_UNAVAILABLE: there may be one, but the source cannot be read.
        """
        key = self._known(algorithm, key_id)
        if key or not self._source:
            return key
        if self._reading or self._since_reading() > self._source.pause:
            await asyncio.wait({self._read(self._source)}, timeout=_FETCH_SECONDS)
            key = self._known(algorithm, key_id)
        if not key and (self._failed or self._reading):
            raise GatewayError(ErrorCode.AUTH_UNAVAILABLE)
        return key

    def _known(self, algorithm: object, key_id: str | None) -> Key | None:
        fitting = [
            key
            for key in self._keys
            if key.algorithm == algorithm and (key.key_id == key_id or key.key_id is None or key_id is None)
        ]
        # Without a `kid` it must be clear which key is meant.
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self, source: Source) -> None:
        while True:
            await asyncio.wait({self._read(source)})
            await asyncio.sleep(min(source.every, source.pause) if self._failed else source.every)

    def _read(self, source: Source) -> asyncio.Task[None]:
        """Begins to read the source, if that is not going on already."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._replace(source))
        return self._reading

    async def _replace(self, source: Source) -> None:
        try:
            self._keys = await asyncio.to_thread(source.read)
        except (jwt.PyJWTError, OSError, ValueError, RecursionError) as error:
            if not self._failed:
                log.warning("the keys for tokens cannot be read", error=type(error).__name__)
            self._failed = True
        else:
            if self._failed:
                log.info("the keys for tokens are read again")
            self._failed = False
        finally:
            self._read_at = asyncio.get_running_loop().time()
            self._reading = None

    def _since_reading(self) -> float:
        return asyncio.get_running_loop().time() - self._read_at

"""Tokens and keys as an issuer makes them, and the issuer's server."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.gateway.wire import FALLBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gateway.conftest import RunningGateway
    from tests.gateway.fake_engine import FakeEngine

SECRET = "0123456789abcdef" * 2

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key for RS256: the same for the same name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(name: str = "one") -> ec.EllipticCurvePrivateKey:
    """A key for ES256: the same for the same name."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def token(subject: Any = "student-42", key: PrivateKey | str = SECRET, *, kid: str | None = None, **claims: Any) -> str:
    """A token that is good for a minute, but for these claims; None leaves one out."""
    held = {"sub": subject, "exp": time.time() + 60, **claims}
    return jwt.encode(
        {name: value for name, value in held.items() if value is not None},
        key,
        algorithm=_algorithm(key),
        headers={"kid": kid} if kid else None,
    )


def _algorithm(key: PrivateKey | str) -> str:
    if isinstance(key, str):
        return "HS256"
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"


def bearer(value: str) -> dict[str, str]:
    """The header that a request carries a token in."""
    return {"authorization": f"Bearer {value}"}


def jwks(**keys: PrivateKey) -> dict[str, Any]:
    """The public keys by their ids, as an issuer publishes them."""
    return {"keys": [{"kid": kid, "use": "sig", **_jwk(key)} for kid, key in keys.items()]}


def _jwk(key: PrivateKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return ECAlgorithm.to_jwk(key.public_key(), as_dict=True)


class Issuer:
    """A server of keys; what it serves is the test's to say."""

    def __init__(self) -> None:
        self.document: Any = {}
        self.status = 200
        self.fetches = 0
        self.url = ""


@contextmanager
def running_issuer(**keys: PrivateKey) -> Iterator[Issuer]:
    """Runs a server of these keys."""
    issuer = Issuer()
    issuer.document = jwks(**keys)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetches += 1
            self.send_response(issuer.status)
            self.end_headers()
            self.wfile.write(json.dumps(issuer.document).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()


async def student_of(engine: FakeEngine, gateway: RunningGateway, value: str) -> str:
    """Asks with a token; returns whom the engine was told of."""
    async with gateway.post(FALLBACK, **bearer(value)):
        call = await engine.next_call()
    await call.cancelled.wait()
    return str(call.request.question.student_id)

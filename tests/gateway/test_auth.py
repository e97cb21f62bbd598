"""Who asks: a token's student, and nobody else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any

import grpc
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from sse_gateway.auth import Authenticator, BadTokenError
from sse_gateway.auth_keys import KeyRing, set_key
from tests.gateway.conftest import RunningGateway, gateway_with, logged
from tests.gateway.fake_engine import FakeEngine, failure
from tests.gateway.tokens import SECRET, bearer, public_pem, rsa_key, student_of, token
from tests.gateway.wire import FALLBACK, STREAM, connect, encoded, question, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"auth_jwt_key": SECRET}
"""The module's gateway asks for tokens that the shared secret has signed."""
ANSWER = "/api/ai/answers/0f4c9a6be1d24c0f9a3b7d5e8c1f2a6b"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", STREAM), ("POST", "/api/v1/chat-image"), ("GET", ANSWER), ("DELETE", ANSWER)]
)
async def test_request_without_a_token_is_asked_for_one(gateway: RunningGateway, method: str, path: str) -> None:
    async with connect(gateway.port) as client:
        await client.send(method, path, encoded(question()))
        assert await refusal(client) == (401, "UNAUTHENTICATED")
    # RFC 6750, section 3.1: without a token nothing is wrong with it.
    assert client.headers["www-authenticate"] == 'bearer realm="studyai"'


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic YTpi", "token", "Bearer a b", 'Bearer "a.b.c"'])
async def test_header_that_carries_no_bearer_token_is_none(gateway: RunningGateway, value: str) -> None:
    async with gateway.post(STREAM, authorization=value) as client:
        assert await refusal(client) == (401, "UNAUTHENTICATED")
    assert client.headers["www-authenticate"] == 'bearer realm="studyai"'


async def test_two_tokens_are_none(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, authorization=f"Bearer {token()}", Authorization=f"Bearer {token()}") as client:
        assert (await refusal(client))[0] == 401


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(head: dict[str, Any] | bytes, claims: dict[str, Any] | None = None, key: str = SECRET) -> str:
    """A token whose head says whatever, with a true HMAC."""
    payload = claims or {"sub": "student-42", "exp": time.time() + 60}
    text = base64url(head if isinstance(head, bytes) else json.dumps(head).encode())
    text += "." + base64url(json.dumps(payload).encode())
    return text + "." + base64url(hmac.digest(key.encode(), text.encode(), "sha256"))


BAD_TOKENS = {
    "not a token": "abc",
    "other key": token(key=SECRET + "!"),
    "other algorithm": token(key=rsa_key()),
    "expired": token(exp=time.time() - 60),
    "not yet": token(nbf=time.time() + 60),
    "from the future": token(iat=time.time() + 60),
    "without exp": token(exp=None),
    "exp is no number": token(exp="soon"),
    "exp is infinite": forged({"alg": "HS256"}, {"sub": "student-42", "exp": float("inf")}),
    "without sub": token(subject=None),
    "empty sub": token(subject=""),
    "sub is no text": forged({"alg": "HS256"}, {"sub": 42, "exp": time.time() + 60}),
    "for somebody else": token(aud="other-service"),
    "signature cut off": token().rpartition(".")[0] + ".",
    "alg none": forged({"alg": "none"}),
    "alg none, unsigned": forged({"alg": "none"}).rpartition(".")[0] + ".",
    "alg in a list": forged({"alg": ["HS256"]}),
    "alg missing": forged({}),
    "kid is no text": forged({"alg": "HS256", "kid": {}}),
    "unknown crit": forged({"alg": "HS256", "crit": ["x"], "x": 1}),
    "detached": forged({"alg": "HS256", "crit": ["b64"], "b64": False}),
    "head is no object": forged(b"[]"),
    "head is deep": forged(b"[" * 4000),
    "head is a long number": forged(b"1" * 5000),
    "very long": token(padding="x" * 10_000),
}


@pytest.mark.parametrize("value", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_bad_token_is_refused_and_called_invalid(gateway: RunningGateway, value: str) -> None:
    async with gateway.post(STREAM, **bearer(value)) as client:
        assert await refusal(client) == (401, "UNAUTHENTICATED")
    assert client.headers["www-authenticate"] == 'bearer realm="studyai", error="invalid_token"'


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HEADS = st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jku", "jwk"]), JSON).map(
    lambda head: {"alg": "HS256", **head}
)


@given(st.binary() | st.builds(forged, HEADS | st.binary(), st.none(), st.just("!")).map(str.encode))
async def test_no_strangers_header_is_more_than_a_bad_token(value: bytes) -> None:
    checking = Authenticator(KeyRing([set_key(SECRET)]), None, None, 0)
    with pytest.raises(BadTokenError):
        await checking.caller([f"Bearer {value.decode('latin-1')}"])


async def test_expired_token_is_told_so(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM, **bearer(BAD_TOKENS["expired"])) as client:
        await client.read_head()
        reply = await client.read_json()
    assert reply["error"] == "The token has expired."
    assert reply["retryable"] is False


async def test_public_key_is_no_shared_secret(engine: FakeEngine) -> None:
    """Algorithm confusion: HS256 with the text of the public key, which is no secret."""
    pem = public_pem(rsa_key())
    async with gateway_with(engine, auth_jwt_key=pem) as gateway:
        for key in (pem, pem.strip()):
            async with gateway.post(STREAM, **bearer(forged({"alg": "HS256"}, key=key))) as client:
                assert (await refusal(client))[0] == 401


async def test_bad_token_is_refused_before_the_body_is_read(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        await client.send_head("POST", STREAM, content_length="3000000", expect="100-continue", **bearer("abc"))
        assert await refusal(client) == (401, "UNAUTHENTICATED")


async def test_client_that_sends_all_before_it_reads_can_read_the_401(gateway: RunningGateway) -> None:
    def post() -> requests.Response:
        with requests.Session() as session:
            return session.post(gateway.url + STREAM, data=b" " * 3_000_000, headers=bearer("abc"), timeout=5)

    reply = await asyncio.to_thread(post)
    assert (reply.status_code, reply.json()["code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("members", [{}, {"student_id": None}, {"student_id": ""}, {"student_id": "student-42"}])
async def test_body_without_another_student_is_the_tokens(
    gateway: RunningGateway, engine: FakeEngine, members: dict[str, Any]
) -> None:
    async with gateway.post(STREAM, question(**members), **bearer(token("student-42"))):
        assert (await engine.next_call()).request.question.student_id == "student-42"


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
@pytest.mark.parametrize("student", ["student-43", "anonymous", "Student-42"])
async def test_question_for_another_student_is_forbidden(gateway: RunningGateway, path: str, student: str) -> None:
    async with gateway.post(path, question(student_id=student), **bearer(token("student-42"))) as client:
        assert await refusal(client) == (403, "FORBIDDEN")


@pytest.mark.parametrize("query", ["", "?student_id=", "?student_id=student-42"])
async def test_answers_are_asked_for_in_the_tokens_name(
    gateway: RunningGateway, engine: FakeEngine, query: str
) -> None:
    for method in ("GET", "DELETE"):
        async with connect(gateway.port) as client:
            await client.send(method, ANSWER + query, **bearer(token("student-42")))
            call = await engine.next_call()
            assert call.request.student_id == "student-42"
            call.fail(failure(grpc.StatusCode.NOT_FOUND, "ANSWER_NOT_FOUND"))
            assert await refusal(client) == (404, "ANSWER_NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_answers_of_another_student_are_forbidden(gateway: RunningGateway, method: str) -> None:
    async with connect(gateway.port) as client:
        await client.send(method, ANSWER + "?student_id=student-43", **bearer(token("student-42")))
        assert await refusal(client) == (403, "FORBIDDEN")


STRANGE_SUBJECTS = [
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "someone@example.com",
    "a b",
    "数学",
    "\ud800",
    "line\nbreak",
    "x" * 129,
    "anonymous",
    "sha256:" + "0" * 64,
]


async def test_subject_that_cannot_be_a_student_id_is_hashed(gateway: RunningGateway, engine: FakeEngine) -> None:
    students = [await student_of(engine, gateway, token(subject)) for subject in STRANGE_SUBJECTS]
    for subject, student in zip(STRANGE_SUBJECTS, students, strict=True):
        assert student == "sha256:" + hashlib.sha256(subject.encode(errors="surrogatepass")).hexdigest()
        assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", student)
        # Whoever is called as another's hash is somebody else all the same.
        assert await student_of(engine, gateway, token(student)) not in students
    assert len(set(students)) == len(STRANGE_SUBJECTS)


@pytest.mark.parametrize("subject", ["a", "A-z_0.9:" * 16, "Anonymous", "sha1:x"])
async def test_subject_that_can_be_a_student_id_is_it(
    gateway: RunningGateway, engine: FakeEngine, subject: str
) -> None:
    assert await student_of(engine, gateway, token(subject)) == subject


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_what_holds_nothing_of_students_is_open(gateway: RunningGateway, path: str) -> None:
    async with gateway.get(path) as client:
        assert client.status == 200


async def test_documentation_asks_for_a_token_where_the_gateway_does(
    gateway: RunningGateway, engine: FakeEngine
) -> None:
    async with gateway.get("/openapi.json") as client:
        document = await client.read_json()
    schemes = document["components"]["securitySchemes"]
    assert [(scheme["type"], scheme["scheme"]) for scheme in schemes.values()] == [("http", "bearer")]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("security") == ([{"token": []}] if path.startswith("/api/") else None)
    async with gateway_with(engine) as other, other.get("/openapi.json") as client:
        assert "securitySchemes" not in (await client.read_json())["components"]


async def test_log_tells_why_a_token_was_refused_and_nothing_of_it(engine: FakeEngine) -> None:
    with logged("debug") as lines:
        async with gateway_with(engine, auth_jwt_key=SECRET) as gateway:
            for value in (token("canary-student", aud="canary-audience"), "canary-token"):
                async with gateway.post(STREAM, **bearer(value)) as client:
                    assert (await refusal(client))[0] == 401
            await student_of(engine, gateway, token("canary-student"))
        text = "\n".join(lines())
    assert "InvalidAudienceError" in text
    for secret in ("canary", SECRET, "eyJ"):
        assert secret not in text

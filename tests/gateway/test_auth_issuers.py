"""Whose tokens are good: keys of every kind and from everywhere, the issuer, the audience, and clocks."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.conftest import gateway_with
from tests.gateway.tokens import SECRET, bearer, ec_key, jwks, public_pem, rsa_key, running_issuer, student_of, token
from tests.gateway.wire import STREAM, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.fake_engine import FakeEngine
    from tests.gateway.tokens import PrivateKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUER, AUDIENCE = "https://login.example/", "studyai"


@pytest.mark.parametrize("kind", ["HS256", "RS256", "ES256"])
async def test_token_of_each_kind_of_key_names_the_student(engine: FakeEngine, tmp_path: Path, kind: str) -> None:
    keys: dict[str, PrivateKey | str] = {"HS256": SECRET, "RS256": rsa_key(), "ES256": ec_key()}
    private = keys[kind]
    public = private if isinstance(private, str) else public_pem(private)
    (tmp_path / "key").write_text(public + "\n")
    ways: list[dict[str, Any]] = [
        {"auth_jwt_key": public},
        {"auth_jwt_key": public.replace("\n", "\\n"), "auth_jwt_algorithms": kind},
        {"auth_jwt_key_file": tmp_path / "key"},
    ]
    for settings in ways:
        async with gateway_with(engine, **settings) as gateway:
            assert await student_of(engine, gateway, token("student-1", private)) == "student-1"
            assert await student_of(engine, gateway, token("student-1", private, kid="any")) == "student-1"


async def test_issuer_and_audience_are_checked_where_they_are_set(engine: FakeEngine) -> None:
    async with gateway_with(engine, auth_jwt_key=SECRET, auth_jwt_issuer=ISSUER, auth_jwt_audience=AUDIENCE) as gateway:
        assert await student_of(engine, gateway, token("s", iss=ISSUER, aud=AUDIENCE)) == "s"
        assert await student_of(engine, gateway, token("s", iss=ISSUER, aud=["other", AUDIENCE])) == "s"
        for claims in (
            {"iss": ISSUER},
            {"aud": AUDIENCE},
            {"iss": ISSUER, "aud": "other"},
            {"iss": "https://evil.example/", "aud": AUDIENCE},
        ):
            async with gateway.post(STREAM, **bearer(token(**claims))) as client:
                assert (await refusal(client))[0] == 401


async def test_clocks_may_differ_by_the_leeway(engine: FakeEngine) -> None:
    async with gateway_with(engine, auth_jwt_key=SECRET, auth_jwt_leeway_seconds=30) as gateway:
        assert await student_of(engine, gateway, token("s", exp=time.time() - 20)) == "s"
        async with gateway.post(STREAM, **bearer(token(exp=time.time() - 40))) as client:
            assert (await refusal(client))[0] == 401


async def test_keys_of_the_issuer_are_fetched_and_its_new_ones_too(engine: FakeEngine) -> None:
    with running_issuer(old=rsa_key(), other=ec_key()) as issuer:
        async with gateway_with(engine, auth_jwt_jwks=issuer.url) as gateway:
            assert await student_of(engine, gateway, token("s", rsa_key(), kid="old")) == "s"
            assert await student_of(engine, gateway, token("s", ec_key(), kid="other")) == "s"
            for value in (
                token("s", rsa_key("two"), kid="old"),
                token("s", rsa_key(), kid="other"),
                token("s", rsa_key(), kid="unknown"),
                token("s"),
            ):
                async with gateway.post(STREAM, **bearer(value)) as client:
                    assert (await refusal(client))[0] == 401
            assert issuer.fetches == 1


async def test_issuer_that_cannot_be_reached_is_no_fault_of_the_token(engine: FakeEngine) -> None:
    with running_issuer(one=rsa_key()) as issuer:
        issuer.status = 500
        async with gateway_with(engine, auth_jwt_jwks=issuer.url) as gateway:
            async with gateway.post(STREAM, **bearer(token("s", rsa_key(), kid="one"))) as client:
                assert await refusal(client) == (503, "AUTH_UNAVAILABLE")
            assert int(client.headers["retry-after"]) >= 1
            assert "www-authenticate" not in client.headers


async def test_keys_are_read_from_a_file(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps(jwks(one=rsa_key())))
    async with gateway_with(engine, auth_jwt_jwks=str(tmp_path / "jwks.json")) as gateway:
        assert await student_of(engine, gateway, token("s", rsa_key(), kid="one")) == "s"
        # It is the only one: no need to name it.
        assert await student_of(engine, gateway, token("s", rsa_key())) == "s"

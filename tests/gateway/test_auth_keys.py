"""The keys of tokens: found at once, read again beside the requests, and kept while they cannot be read."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from sse_gateway import auth_keys
from sse_gateway.auth_keys import PUBLIC_KEY_ALGORITHMS, Key, KeyRing, Source, jwks_source
from sse_gateway.errors import ErrorCode, GatewayError
from tests.gateway.conftest import logged
from tests.gateway.tokens import ec_key, jwks, rsa_key, running_issuer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOON, NEVER = 0.01, 3600.0


class Origin:
    """Where keys come from, in the hands of the test."""

    def __init__(self, *key_ids: str) -> None:
        self.key_ids = list(key_ids)
        self.broken = False
        self.readings = 0
        self.open = threading.Event()
        self.open.set()

    def read(self) -> list[Key]:
        self.readings += 1
        assert self.open.wait(5)
        if self.broken:
            raise ConnectionRefusedError
        return [Key("RS256", b"", key_id) for key_id in self.key_ids]

    @asynccontextmanager
    async def ring(self, every: float = NEVER, pause: float = NEVER) -> AsyncIterator[KeyRing]:
        async with KeyRing(source=Source(self.read, every, pause)) as keys:
            yield keys


async def finds(keys: KeyRing, key_id: str | None, algorithm: str = "RS256") -> bool:
    return await keys.find(algorithm, key_id) is not None


async def until_unknown(keys: KeyRing, key_id: str) -> None:
    async def unknown() -> bool:
        return not await finds(keys, key_id)

    await until(unknown)


async def test_keys_are_read_once_for_all_who_ask_meanwhile() -> None:
    origin = Origin("one", "two")
    origin.open.clear()
    async with origin.ring() as keys:
        asking = [asyncio.create_task(finds(keys, key_id)) for key_id in ("one", "two", "three") * 10]
        await until(lambda: origin.readings)
        origin.open.set()
        assert await asyncio.gather(*asking) == [True, True, False] * 10
    assert origin.readings == 1


async def test_reading_keys_holds_nobody_up_whose_key_is_known() -> None:
    origin = Origin("one")
    async with origin.ring(every=SOON) as keys:
        assert await finds(keys, "one")
        origin.open.clear()
        begun = origin.readings
        await until(lambda: origin.readings > begun)
        async with asyncio.timeout(1):
            assert await finds(keys, "one")
        origin.open.set()


async def test_strangers_cannot_have_the_keys_read_again_and_again() -> None:
    origin = Origin("one")
    async with origin.ring() as keys:
        assert await finds(keys, "one")
        for number in range(100):
            assert not await finds(keys, f"unknown-{number}")
    assert origin.readings == 1


async def test_new_key_is_found_when_a_token_has_it() -> None:
    origin = Origin("old")
    async with origin.ring(pause=0) as keys:
        assert await finds(keys, "old")
        origin.key_ids = ["old", "new"]
        assert await finds(keys, "new")
        assert await finds(keys, "old")
    assert origin.readings == 2


async def test_key_that_is_taken_back_is_good_no_more() -> None:
    origin = Origin("one", "two")
    async with origin.ring(every=SOON) as keys:
        assert await finds(keys, "two")
        origin.key_ids = ["one"]
        await until_unknown(keys, "two")
        assert await finds(keys, "one")


async def test_known_keys_stay_good_while_they_cannot_be_read() -> None:
    origin = Origin("one")
    with logged() as lines:
        async with origin.ring(every=SOON) as keys:
            assert await finds(keys, "one")
            origin.broken = True
            begun = origin.readings
            await until(lambda: origin.readings > begun + 3)
            assert await finds(keys, "one")
            with pytest.raises(GatewayError) as caught:
                await keys.find("RS256", "two")
            assert caught.value.code is ErrorCode.AUTH_UNAVAILABLE
            origin.broken = False
            origin.key_ids.append("two")
            found = origin.readings
            await until(lambda: origin.readings > found + 1)
            assert await finds(keys, "two")
        events = [json.loads(line)["event"] for line in lines()]
    assert events == ["the keys for tokens cannot be read", "the keys for tokens are read again"]


async def test_token_does_not_wait_long_for_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_keys, "_FETCH_SECONDS", 0.01)
    origin = Origin("one")
    origin.open.clear()
    async with origin.ring() as keys:
        with pytest.raises(GatewayError) as caught:
            await keys.find("RS256", "one")
        origin.open.set()
    assert caught.value.code is ErrorCode.AUTH_UNAVAILABLE


async def test_key_without_a_name_is_found_where_it_is_clear_which_one_is_meant() -> None:
    one, two, named = Key("RS256", b""), Key("ES256", b""), Key("RS256", b"", "named")
    assert await KeyRing([one, two]).find("RS256", "any") is one
    assert await KeyRing([named, two]).find("RS256", None) is named
    assert await KeyRing([one, named]).find("RS256", None) is None
    assert await KeyRing([one]).find("HS256", None) is None


def read(where: str) -> list[tuple[str, str | None]]:
    return [(key.algorithm, key.key_id) for key in jwks_source(where, PUBLIC_KEY_ALGORITHMS).read()]


def test_only_keys_that_sign_with_a_known_algorithm_are_taken() -> None:
    rsa, ec = (jwks(x=key)["keys"][0] for key in (rsa_key(), ec_key()))
    with running_issuer() as issuer:
        issuer.document = {
            "keys": [
                {**rsa, "kid": "rsa"},
                {**ec, "kid": "ec"},
                {**rsa, "kid": "encrypts", "use": "enc"},
                {**rsa, "kid": "other", "alg": "RS512"},
                {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "secret"},
                {"kty": "new", "kid": "unknown"},
                {"kty": "RSA", "n": 5, "e": [], "kid": "broken"},
                "nothing",
            ]
        }
        assert read(issuer.url) == [("RS256", "rsa"), ("ES256", "ec")]


@pytest.mark.parametrize(
    "document", [None, [], {}, {"keys": []}, {"keys": 5}, {"keys": [{"alg": ["RS256"], "kty": "RSA"}]}]
)
def test_what_holds_no_keys_is_not_taken_for_keys(document: Any) -> None:
    with running_issuer() as issuer:
        issuer.document = document
        with pytest.raises((ValueError, jwt.PyJWKClientError)):
            read(issuer.url)


async def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(jwks(old=rsa_key())))
    source = jwks_source(str(file), PUBLIC_KEY_ALGORITHMS)
    assert source.every <= 5
    async with KeyRing(source=source._replace(every=SOON)) as keys:
        assert await finds(keys, "old")
        file.write_text(json.dumps(jwks(new=ec_key())))
        await until_unknown(keys, "old")
        assert await finds(keys, "new", "ES256")

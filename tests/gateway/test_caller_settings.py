"""What the settings may say of tokens, limits and pages, and what is said of what they may not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from sse_gateway.auth import authenticator
from sse_gateway.cors import origins
from sse_gateway.limits import rate_limits
from sse_gateway.settings import GatewaySettings, faults
from tests.gateway.process import run_to_end
from tests.gateway.tokens import SECRET, ec_key, jwks, private_pem, public_pem, rsa_key

if TYPE_CHECKING:
    from pathlib import Path

RSA_PEM, EC_PEM = public_pem(rsa_key()), public_pem(ec_key())


@pytest.fixture(autouse=True)
def _in_a_folder_with_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rsa.pem").write_text(RSA_PEM)
    (tmp_path / "jwks.json").write_text(json.dumps(jwks(one=rsa_key())))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> GatewaySettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return GatewaySettings(_env_file=None)


@pytest.mark.parametrize(
    "variables",
    [
        {"AUTH_JWT_KEY": SECRET},
        {"AUTH_JWT_KEY": SECRET, "AUTH_JWT_ALGORITHMS": "HS256"},
        {"AUTH_JWT_KEY": RSA_PEM, "AUTH_JWT_ISSUER": "https://login.example/", "AUTH_JWT_AUDIENCE": "studyai"},
        {"AUTH_JWT_KEY": RSA_PEM.replace("\n", "\\n"), "AUTH_JWT_ALGORITHMS": "RS256, ES256"},
        {"AUTH_JWT_KEY": EC_PEM, "AUTH_JWT_LEEWAY_SECONDS": "0"},
        {"AUTH_JWT_KEY_FILE": "rsa.pem"},
        {"AUTH_JWT_JWKS": "jwks.json", "AUTH_JWT_ALGORITHMS": "RS256"},
        {"AUTH_JWT_JWKS": "https://login.example/.well-known/jwks.json"},
        {"AUTH_JWT_JWKS": "http://localhost:8080/jwks"},
        {"AUTH_JWT_JWKS": "http://[::1]:8080/jwks"},
    ],
)
def test_tokens_are_asked_for(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert authenticator(settings(monkeypatch, **variables)) is not None


def test_no_tokens_are_asked_for_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert authenticator(settings(monkeypatch)) is None


@pytest.mark.parametrize(
    ("variables", "named", "help_"),
    [
        ({"AUTH_JWT_KEY": "canary-" * 4}, "AUTH_JWT_KEY", "32 bytes"),
        ({"AUTH_JWT_KEY": private_pem(rsa_key())}, "AUTH_JWT_KEY", "private key"),
        ({"AUTH_JWT_KEY": public_pem(rsa_key(bits=1024))}, "AUTH_JWT_KEY", "2048 bits"),
        ({"AUTH_JWT_KEY": public_pem(ec.generate_private_key(ec.SECP384R1()))}, "AUTH_JWT_KEY", "P-256"),
        ({"AUTH_JWT_KEY": RSA_PEM[:200]}, "AUTH_JWT_KEY", "PEM"),
        ({"AUTH_JWT_KEY": "ssh-rsa canary " + "A" * 100}, "AUTH_JWT_KEY", "PEM"),
        ({"AUTH_JWT_KEY_FILE": "canary-missing"}, "AUTH_JWT_KEY_FILE", "no such file"),
        ({"AUTH_JWT_KEY_FILE": "binary"}, "AUTH_JWT_KEY_FILE", "as text"),
        ({"AUTH_JWT_KEY_FILE": "jwks.json"}, "AUTH_JWT_KEY_FILE", "PEM"),
        ({"AUTH_JWT_JWKS": "http://canary.example/jwks"}, "AUTH_JWT_JWKS", "https://"),
        ({"AUTH_JWT_JWKS": "http://canary/jwks"}, "AUTH_JWT_JWKS", "https://"),
        ({"AUTH_JWT_JWKS": "http://localhost.canary.example/jwks"}, "AUTH_JWT_JWKS", "https://"),
        ({"AUTH_JWT_JWKS": "ftp://canary.example/jwks"}, "AUTH_JWT_JWKS", "https://"),
        ({"AUTH_JWT_JWKS": "https://"}, "AUTH_JWT_JWKS", "https://"),
        ({"AUTH_JWT_JWKS": "canary-missing"}, "AUTH_JWT_JWKS", "no such file"),
        ({"AUTH_JWT_JWKS": "rsa.pem"}, "AUTH_JWT_JWKS", "no JWKS"),
        ({"AUTH_JWT_KEY": SECRET, "AUTH_JWT_KEY_FILE": "rsa.pem"}, "AUTH_JWT_KEY_FILE", "AUTH_JWT_KEY is set as well"),
        ({"AUTH_JWT_KEY": SECRET, "AUTH_JWT_JWKS": "jwks.json"}, "AUTH_JWT_JWKS", "AUTH_JWT_KEY is set as well"),
        ({"AUTH_JWT_ISSUER": "canary"}, "AUTH_JWT_ISSUER", "Set AUTH_JWT_KEY"),
        ({"AUTH_JWT_AUDIENCE": "canary"}, "AUTH_JWT_AUDIENCE", "Set AUTH_JWT_KEY"),
        ({"AUTH_JWT_ALGORITHMS": "RS256"}, "AUTH_JWT_ALGORITHMS", "Set AUTH_JWT_KEY"),
        ({"AUTH_JWT_KEY": RSA_PEM, "AUTH_JWT_ALGORITHMS": "HS256"}, "AUTH_JWT_ALGORITHMS", "is for RS256"),
        ({"AUTH_JWT_KEY": RSA_PEM, "AUTH_JWT_ALGORITHMS": "RS256,HS256"}, "AUTH_JWT_ALGORITHMS", "never mix"),
        ({"AUTH_JWT_KEY": SECRET, "AUTH_JWT_ALGORITHMS": "ES256"}, "AUTH_JWT_ALGORITHMS", "is for HS256"),
        ({"AUTH_JWT_KEY_FILE": "rsa.pem", "AUTH_JWT_ALGORITHMS": "ES256"}, "AUTH_JWT_ALGORITHMS", "is for RS256"),
        ({"AUTH_JWT_JWKS": "jwks.json", "AUTH_JWT_ALGORITHMS": "HS256"}, "AUTH_JWT_ALGORITHMS", "never mix"),
        ({"AUTH_JWT_KEY": SECRET, "AUTH_JWT_ALGORITHMS": "none"}, "AUTH_JWT_ALGORITHMS", "HS256"),
        ({"AUTH_JWT_KEY": SECRET, "AUTH_JWT_LEEWAY_SECONDS": "301"}, "AUTH_JWT_LEEWAY_SECONDS", "300"),
        ({"RATE_LIMIT": "canary"}, "RATE_LIMIT", "30/minute"),
        ({"MAX_CONCURRENT_ANSWERS_PER_STUDENT": "-1"}, "MAX_CONCURRENT_ANSWERS_PER_STUDENT", "0"),
        ({"STATE_URL": "http://canary"}, "STATE_URL", "redis://"),
        ({"STATE_URL": "redis://:canary@host:x"}, "STATE_URL", "redis://"),
        ({"STATE_URL": "redis://host/0?protocol=canary"}, "STATE_URL", "redis://"),
        ({"CORS_ALLOW_ORIGINS": "https://canary.example/"}, "CORS_ALLOW_ORIGINS", "scheme://host:port"),
    ],
)
def test_fault_names_the_variable_and_what_to_do_but_not_the_value(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str, help_: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(monkeypatch, **variables)
    (line,) = faults(caught.value)
    assert line.startswith(f"{named}: ")
    assert f" For example: {named}=" in line
    assert help_ in line
    assert "canary" not in line
    assert RSA_PEM[40:80] not in line


async def test_gateway_does_not_start_half_protected(tmp_path: Path) -> None:
    code, output = await run_to_end(tmp_path, AUTH_JWT_ISSUER="https://login.example/")
    assert code == 2
    assert output.startswith("sse-gateway: AUTH_JWT_ISSUER: Set AUTH_JWT_KEY")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thirty",
        "30",
        "30/fortnight",
        "0/minute",
        "-1/minute",
        "30/minute;",
        "10001/day",
        "1/year",
        "1/99999999999999999999day",
        "\u0663/day",
    ],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="30/minute"):
        rate_limits(text)


@pytest.mark.parametrize(
    ("text", "amounts_and_seconds"),
    [
        ("30/minute", [(30, 60)]),
        ("1 per 5 seconds", [(1, 5)]),
        ("30/minute;500/day", [(30, 60), (500, 86_400)]),
        ("9/hour; 9/hours", [(9, 3600)]),
    ],
)
def test_limits_are_read(text: str, amounts_and_seconds: list[tuple[int, int]]) -> None:
    assert [(limit.amount, limit.get_expiry()) for limit in rate_limits(text)] == amounts_and_seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example",
        "https://app.example/",
        "https://app.example/page",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://*.example",
        "https://a.example,",
        "https://a.example,*",
        "https://user@a.example",
        "null",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scheme://host:port"):
        origins(text)


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "https://a.example",
        "http://localhost:5173",
        "http://127.0.0.1",
        "http://[::1]:8080",
        "capacitor://localhost",
    ],
)
def test_origin_is_read(text: str) -> None:
    assert origins(text) == [text]


def test_origins_are_read() -> None:
    assert origins("https://a.example , http://b") == ["https://a.example", "http://b"]

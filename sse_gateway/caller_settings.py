"""The settings that say who may ask, how much, and from which pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode

from sse_gateway.auth_keys import PUBLIC_KEY_ALGORITHMS, Algorithm, jwks_source, set_key
from sse_gateway.cors import origins
from sse_gateway.limits import rate_limits

_SOURCES = ("auth_jwt_key", "auth_jwt_key_file", "auth_jwt_jwks")


def _is_key(key: SecretStr) -> SecretStr:
    set_key(key.get_secret_value())
    return key


def _holds_key(path: Path, info: ValidationInfo) -> Path:
    _only_source(info)
    set_key(_content(path))
    return path


def _is_jwks(where: str, info: ValidationInfo) -> str:
    _only_source(info)
    source = jwks_source(where, PUBLIC_KEY_ALGORITHMS)
    if "://" not in where:
        try:
            source.read()
        except (OSError, ValueError, RecursionError):
            raise ValueError("There is no such file, or no JWKS with a key for RS256 or ES256 in it") from None
    return where


def _has_source(text: str, info: ValidationInfo) -> str:
    # One that is there and wrong is not in the data, and has a fault of its own.
    if all(name in info.data and info.data[name] is None for name in _SOURCES):
        raise ValueError("Set AUTH_JWT_KEY, AUTH_JWT_KEY_FILE or AUTH_JWT_JWKS too: without one no token is asked for")
    return text


def _parts(text: Any) -> Any:
    return tuple(part.strip() for part in text.split(",")) if isinstance(text, str) else text


def _fit(algorithms: tuple[Algorithm, ...], info: ValidationInfo) -> tuple[Algorithm, ...]:
    if not algorithms:
        return algorithms
    _has_source("", info)
    key, path, jwks = (info.data.get(name) for name in _SOURCES)
    if "HS256" in algorithms and (jwks or set(algorithms) != {"HS256"}):
        raise ValueError("HS256 is for a shared secret, and the others and a JWKS are for public keys: never mix them")
    text = key.get_secret_value() if key else _content(path) if path else None
    if text and (needed := set_key(text).algorithm) not in algorithms:
        raise ValueError(f"The key that is set is for {needed}: leave this out")
    return algorithms


def _is_limit(text: str) -> str:
    rate_limits(text)
    return text


def _is_state(url: SecretStr) -> SecretStr:
    if not _is_state_url(url.get_secret_value()):
        raise ValueError("Must be memory://, or redis://host:port/number, or the same with rediss:// for TLS")
    return url


def _are_origins(text: str) -> str:
    origins(text)
    return text


def _only_source(info: ValidationInfo) -> None:
    others = [name.upper() for name in _SOURCES if info.data.get(name)]
    if others:
        raise ValueError(f"{others[0]} is set as well: decide for one of them")


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        raise ValueError("There is no such file, or it cannot be read as text") from None


def _is_state_url(url: str) -> bool:
    if url == "memory://":
        return True
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        valid = valid and all(name.startswith("ssl_") for name, _ in parse_qsl(parts.query, strict_parsing=True))
    except ValueError:
        return False
    return valid and (parts.path.removeprefix("/") or "0").isdecimal()


class CallerSettings(BaseSettings):
    """Part of GatewaySettings. Tokens are asked for where one of the first three is set."""

    auth_jwt_key: Annotated[SecretStr, AfterValidator(_is_key)] | None = Field(
        default=None, examples=["$(openssl rand -base64 48)"]
    )
    """Checks tokens: a shared secret for HS256 (at least 32 bytes), or a public key in PEM for RS256 or ES256."""
    auth_jwt_key_file: Annotated[Path, AfterValidator(_holds_key)] | None = Field(
        default=None, examples=["/run/secrets/jwt.pem"]
    )
    """A file that holds the same. Read at the start."""
    auth_jwt_jwks: Annotated[str, AfterValidator(_is_jwks)] | None = Field(
        default=None, examples=["https://login.example/.well-known/jwks.json"]
    )
    """A set of public keys (RFC 7517): `https://…`, or a file. Read again every 5 minutes, or 5 seconds from a file."""
    auth_jwt_issuer: Annotated[str, AfterValidator(_has_source)] | None = Field(
        default=None, examples=["https://login.example/"]
    )
    """`iss` of every token. To be set: else what the issuer's keys sign for others is good here too."""
    auth_jwt_audience: Annotated[str, AfterValidator(_has_source)] | None = Field(default=None, examples=["studyai"])
    """What `aud` of every token must name. To be set: without it, tokens that have an `aud` are refused."""
    auth_jwt_algorithms: Annotated[tuple[Algorithm, ...], NoDecode, BeforeValidator(_parts), AfterValidator(_fit)] = (
        Field(default=(), examples=["RS256"])
    )
    """HS256, or RS256 and ES256, with commas between. Unset: what the key is for; with a JWKS both of the last."""
    auth_jwt_leeway_seconds: float = Field(default=10, ge=0, le=300, allow_inf_nan=False, examples=["10"])
    """By how much the issuer's clock may differ."""

    rate_limit: Annotated[str, AfterValidator(_is_limit)] | None = Field(default=None, examples=["30/minute;500/day"])
    """How many questions a student may ask, in sliding windows; unset: any number."""
    max_concurrent_answers_per_student: int = Field(default=0, ge=0, examples=["3"])
    """How many questions of one student may be open at once, in each gateway; 0: any number."""
    state_url: Annotated[SecretStr, AfterValidator(_is_state)] = Field(
        default=SecretStr("memory://"), examples=["redis://localhost:6379/0"]
    )
    """Where questions are counted together with other gateways: `redis://…`, `rediss://…` (TLS); or not at all."""
    cors_allow_origins: Annotated[str, AfterValidator(_are_origins)] | None = Field(
        default=None, examples=["https://app.example,http://localhost:5173"]
    )
    """The pages that may use the gateway from a browser: their origins, with commas between, or `*`. Unset: none."""

"""The settings that say where the engine is, and how gateway and engine know each other.

Files are read and checked at the start: of those that are of no use, gRPC says no more than that it cannot connect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from sse_gateway.channel import EngineAccess
from sse_gateway.engine_url import engine_targets

if TYPE_CHECKING:
    from pathlib import Path

    from sse_gateway.engine_url import EngineTarget

_TOKEN = re.compile(r"[\x21-\x7e]{32,}")
_TLS = ("ai_engine_tls_ca_file", "ai_engine_tls_cert_file", "ai_engine_tls_key_file", "ai_engine_tls_server_name")


class EngineAccessSettings(BaseSettings):
    """Part of GatewaySettings."""

    insecure: bool = Field(default=False, examples=["true"])
    """Send the service token without TLS, too, where other machines can read it."""
    service_token: SecretStr | None = Field(default=None, examples=["$(openssl rand -hex 32)"])
    """What the engine wants to be shown, as its own SERVICE_TOKEN says; of several, comma-separated, the first."""
    ai_engine_tls_ca_file: FilePath | None = Field(default=None, examples=["/run/secrets/ca.pem"])
    """The authorities whose word for an engine is taken. Unset: the public ones that gRPC brings."""
    ai_engine_tls_cert_file: FilePath | None = Field(default=None, examples=["/run/secrets/gateway.pem"])
    """The gateway's own certificate chain, where engines ask for one (mutual TLS)."""
    ai_engine_tls_key_file: FilePath | None = Field(
        default=None, validate_default=True, examples=["/run/secrets/gateway.key"]
    )
    """Its private key, not encrypted."""
    ai_engine_tls_server_name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9.:_-]{1,253}$", examples=["engine.internal"]
    )
    """What the engines' certificates name. Unset: the name, or the address, in AI_ENGINE_URL."""
    ai_engine_url: str = Field(
        default="http://localhost:5001", validate_default=True, examples=["http://localhost:5001"]
    )
    """Where the engine is: `http://` plain, `https://` TLS; several with commas, or `dns:///name:port`: balanced, and
    with TLS where one of AI_ENGINE_TLS_… is set."""

    @field_validator("service_token")
    @classmethod
    def _good_tokens(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            _tokens(value)
        return value

    @field_validator("ai_engine_tls_ca_file")
    @classmethod
    def _authorities(cls, path: Path | None) -> Path | None:
        try:
            EngineAccess(ca=path).credentials()
        except OSError:
            raise ValueError("Should be a file of authorities' certificates in PEM") from None
        return path

    @field_validator("ai_engine_tls_key_file")
    @classmethod
    def _pair(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("ai_engine_tls_cert_file")
        if bool(key) != bool(certificate):
            raise ValueError("AI_ENGINE_TLS_CERT_FILE and this need each other")
        try:
            EngineAccess(certificate=certificate, key=key).credentials()
        except OSError:
            raise ValueError("Should be the certificate's private key, not encrypted, both files in PEM") from None
        return key

    @field_validator("ai_engine_url")
    @classmethod
    def _safe_targets(cls, url: str, info: ValidationInfo) -> str:
        tls = any(info.data.get(name) for name in _TLS)
        plain = [target for target in engine_targets(url, tls_names=tls) if not target.tls]
        if plain and tls:
            raise ValueError("AI_ENGINE_TLS_… is set, and http:// would not use it: say https://")
        if info.data.get("service_token") and not info.data.get("insecure") and not all(t.loopback for t in plain):
            raise ValueError(
                "SERVICE_TOKEN would go over the network in clear: say https://, or set AI_ENGINE_TLS_CA_FILE for "
                "dns:///; or, where nobody else is in the network, INSECURE=true"
            )
        return url

    @property
    def engine_targets(self) -> list[EngineTarget]:
        """Where the engine is, at least one place."""
        return engine_targets(self.ai_engine_url, tls_names=any(getattr(self, name) for name in _TLS))

    @property
    def engine_access(self) -> EngineAccess:
        """How to be let in there."""
        token = _tokens(self.service_token)[0] if self.service_token else None
        return EngineAccess(
            metadata=(("authorization", f"Bearer {token}"),) if token else (),
            ca=self.ai_engine_tls_ca_file,
            certificate=self.ai_engine_tls_cert_file,
            key=self.ai_engine_tls_key_file,
            server_name=self.ai_engine_tls_server_name,
        )


def _tokens(value: SecretStr) -> list[str]:
    tokens = [token.strip() for token in value.get_secret_value().split(",")]
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError("Must be at least 32 visible ASCII characters; several with commas between")
    return tokens

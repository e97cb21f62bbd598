"""The engine's settings: the environment, or `.env` in the working folder; read once, checked once, at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine_grpc.exposure import is_loopback, missing_protection, service_tokens
from engine_grpc.log import LogFormat
from engine_grpc.model_servers import same_place, server
from engine_grpc.tls import TlsFiles

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class EngineSettings(BaseSettings):
    """Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    openai_api_key: SecretStr | None = None
    """The key for OpenAI, or for the server at OPENAI_BASE_URL where it wants one."""
    openai_model: str = Field(default="gpt-5.4-mini", min_length=1)
    openai_base_url: str | None = None
    """An OpenAI-compatible server, up to and including `/v1`. Unset: OpenAI."""
    openai_fallback_model: str | None = Field(default=None, min_length=1)
    """Asked where OPENAI_MODEL fails before its first word. Unset, with a fallback server: OPENAI_MODEL there."""
    openai_fallback_base_url: str | None = None
    """Where the fallback is. Unset, with a fallback model: where OPENAI_MODEL is."""
    openai_fallback_api_key: SecretStr | None = None
    """The fallback's key. Unset: OPENAI_API_KEY at the same server, and none at another."""
    openai_max_completion_tokens: int = Field(default=2000, ge=1)
    openai_reasoning_effort: str | None = Field(default=None, pattern=r"^[a-z]+$")
    """Passed on as it is: which efforts there are depends on the model."""
    openai_image_detail: Literal["low", "high", "auto", "original"] = "high"
    safety_identifier_key: SecretStr | None = None
    """Keys the hash of student ids that OpenAI gets. Unset: OPENAI_API_KEY does, and a new key makes new hashes."""
    local_model: bool = False
    """Start and ask the embedded local model instead."""

    engine_host: str = "127.0.0.1"
    engine_port: int = Field(default=5001, ge=0, le=65535)
    """0 takes a free port, and the log says which."""
    engine_tls_cert_file: Path | None = None
    """The engine's certificate chain, PEM. Renewed files are used from the next connection on. Unset: no TLS."""
    engine_tls_key_file: Path | None = None
    """Its private key, PEM, not encrypted."""
    engine_tls_client_ca_file: Path | None = None
    """The authorities, PEM, of whom every caller needs a certificate (mutual TLS). Unset: callers need none."""
    service_token: SecretStr | None = None
    """What every caller has to show; several, comma-separated, are good at once. Unset: nothing is asked for."""
    insecure: bool = False
    """Listen where other machines reach the engine even without TLS, or without knowing the callers."""

    first_token_timeout_seconds: Seconds = 30
    stall_timeout_seconds: Seconds = 20
    answer_timeout_seconds: Seconds = 120
    max_concurrent_answers: int = Field(default=1000, ge=1)
    resume_window_seconds: float = Field(default=30, ge=0, allow_inf_nan=False)
    answer_ttl_seconds: float = Field(default=300, ge=0, allow_inf_nan=False)
    session_ttl_seconds: float = Field(default=86_400, ge=0, allow_inf_nan=False)
    state_url: SecretStr = SecretStr("memory://")
    """Where answers and sessions are shared with other engines: `redis://…`, `rediss://…` (TLS); or not at all."""
    drain_seconds: float = Field(default=30, ge=0, allow_inf_nan=False)

    engine_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where `/metrics` is served over HTTP, on ENGINE_HOST. Unset: nowhere."""
    otel_exporter_otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    """Where traces go: an OTLP/HTTP receiver. Unset: there are none."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "auto"
    log_prompts: bool = False
    """For development: log what students ask and are answered. Only where no other machine reaches the engine."""

    @field_validator("openai_base_url", "openai_fallback_base_url")
    @classmethod
    def _known_server(cls, url: str | None) -> str | None:
        try:
            server(url)
        except ValueError:
            raise ValueError("Must be http:// or https://, a host and maybe a port, up to and including /v1") from None
        return url

    @field_validator("state_url")
    @classmethod
    def _known_state(cls, url: SecretStr) -> SecretStr:
        if not _is_state_url(url.get_secret_value()):
            raise ValueError("Must be memory://, or redis://host:port/number, or the same with rediss:// for TLS")
        return url

    @field_validator("service_token")
    @classmethod
    def _good_tokens(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            service_tokens(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _safe_where_it_listens(self) -> EngineSettings:
        if self.tls_files:
            self.tls_files.read()
        if self.unprotected and not self.insecure:
            raise ValueError(
                f"ENGINE_HOST is not a loopback address, so other machines can reach it: set "
                f"{', and '.join(self.unprotected)}; or ENGINE_HOST=127.0.0.1; or, where nobody else is in the "
                "network, INSECURE=true"
            )
        return self

    @model_validator(mode="after")
    def _words_of_nobody_else(self) -> EngineSettings:
        if self.log_prompts and not is_loopback(self.engine_host):
            raise ValueError(
                "LOG_PROMPTS=true writes what students ask to the log, which is for development on one machine: unset "
                "it, or set ENGINE_HOST=127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _somebody_answers(self) -> EngineSettings:
        if not (self.local_model or self.openai_api_key or self.openai_base_url):
            raise ValueError(
                "Nobody to answer: set OPENAI_API_KEY to your key, or OPENAI_BASE_URL to an OpenAI-compatible server, "
                "or LOCAL_MODEL=true to try the service without one"
            )
        return self

    @model_validator(mode="after")
    def _fallback_is_another(self) -> EngineSettings:
        if self.openai_fallback_api_key and not self.has_fallback:
            raise ValueError(
                "OPENAI_FALLBACK_API_KEY is for a fallback: set OPENAI_FALLBACK_MODEL or OPENAI_FALLBACK_BASE_URL too"
            )
        there = self.openai_fallback_base_url or self.openai_base_url
        same = same_place(there, self.openai_base_url) and self.openai_fallback_model in (None, self.openai_model)
        if self.has_fallback and same:
            raise ValueError(
                "The fallback is the model it is for: set OPENAI_FALLBACK_MODEL or OPENAI_FALLBACK_BASE_URL to another"
            )
        return self

    @property
    def has_fallback(self) -> bool:
        """Whether another model or server is to be asked where the first fails."""
        return bool(self.openai_fallback_model or self.openai_fallback_base_url)

    @property
    def tls_files(self) -> TlsFiles | None:
        """Where the engine's certificate is, if it has one.

        Raises:
            ValueError: Some of the settings need others, which are not set.
        """
        certificate, key = self.engine_tls_cert_file, self.engine_tls_key_file
        if certificate and key:
            return TlsFiles(certificate, key, self.engine_tls_client_ca_file)
        if certificate or key or self.engine_tls_client_ca_file:
            raise ValueError("TLS needs ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE, both of them")
        return None

    @property
    def service_tokens(self) -> list[str]:
        """The tokens that are good; none where nothing is asked for."""
        return service_tokens(self.service_token.get_secret_value()) if self.service_token else []

    @property
    def unprotected(self) -> list[str]:
        """The settings without which the engine should not listen where it is to; see `missing_protection`."""
        callers_known = bool(self.service_token or self.engine_tls_client_ca_file)
        return missing_protection(self.engine_host, tls=bool(self.tls_files), callers_known=callers_known)


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


def faults(error: ValidationError | UnicodeDecodeError) -> list[str]:
    """Returns one line for each wrong setting: its variable, and what to do. Values are left out: one may be a key."""
    if isinstance(error, UnicodeDecodeError):
        return [".env: Save it as UTF-8"]
    return [
        f"{'.'.join(map(str, fault['loc'])).upper() or 'settings'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False, include_url=False)
    ]

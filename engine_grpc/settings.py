"""The engine's settings: the environment, or `.env` in the working folder; read once, checked once, at the start."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine_grpc.log import LogFormat

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class EngineSettings(BaseSettings):
    """Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    openai_api_key: SecretStr | None = None
    """The key for OpenAI, or for the server at OPENAI_BASE_URL where it wants one."""
    openai_model: str = Field(default="gpt-5.4-mini", min_length=1)
    openai_base_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    """An OpenAI-compatible server, up to and including `/v1`. Unset: OpenAI."""
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

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "auto"

    @field_validator("state_url")
    @classmethod
    def _known_state(cls, url: SecretStr) -> SecretStr:
        if not _is_state_url(url.get_secret_value()):
            raise ValueError("Must be memory://, or redis://host:port/number, or the same with rediss:// for TLS")
        return url

    @model_validator(mode="after")
    def _somebody_answers(self) -> EngineSettings:
        if not (self.local_model or self.openai_api_key or self.openai_base_url):
            raise ValueError(
                "Nobody to answer: set OPENAI_API_KEY to your key, or OPENAI_BASE_URL to an OpenAI-compatible server, "
                "or LOCAL_MODEL=true to try the service without one"
            )
        return self


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


def faults(error: ValidationError) -> list[str]:
    """Returns one line for each wrong setting: its variable, and what to do. Values are left out: one may be a key."""
    return [
        f"{'.'.join(map(str, fault['loc'])).upper() or 'settings'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False, include_url=False)
    ]

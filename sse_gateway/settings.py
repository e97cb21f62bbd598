"""The gateway's settings: the environment, or `.env` in the working folder; read once, checked once, at the start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sse_gateway.engine_url import engine_targets
from sse_gateway.log import LogFormat

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class GatewaySettings(BaseSettings):
    """Each field is the environment variable of the same name in capitals; the engine's share the same `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    ai_engine_url: str = Field(default="http://localhost:5001", examples=["http://localhost:5001"])
    """Where the engine is: `http://` plain, `https://` TLS; several with commas, or `dns:///name:port`: balanced."""
    host: str = Field(default="127.0.0.1", min_length=1, examples=["0.0.0.0"])  # noqa: S104 - an example, for containers
    """The address to listen on."""
    port: int = Field(default=3000, ge=0, le=65_535, examples=["3000"])
    """0 takes a free port, and the log says which."""
    max_payload_bytes: int = Field(default=3 * 1024 * 1024, ge=1, le=8_000_000, examples=["3145728"])
    """The largest request body. The engine's own limits (3 MiB of picture, 8 MiB of message) stay as they are."""

    heartbeat_seconds: Seconds = Field(default=15, examples=["15"])
    """An open stream in which nothing happens gets a comment line this often."""
    write_stall_timeout_seconds: Seconds = Field(default=30, examples=["30"])
    """A client that takes nothing for this long is cut off."""
    drain_seconds: float = Field(default=30, ge=0, le=86_400, allow_inf_nan=False, examples=["30"])
    """How long running answers may go on after SIGTERM or SIGINT."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", examples=["info"])
    log_format: LogFormat = Field(default="auto", examples=["json"])
    """`auto`: `console` on a terminal, else `json`."""

    @field_validator("ai_engine_url")
    @classmethod
    def _has_targets(cls, url: str) -> str:
        engine_targets(url)
        return url


def faults(error: ValidationError) -> list[str]:
    """Returns one line for each wrong setting: its variable, what to do, and an example. Values are left out."""
    return [
        _fault(str(fault["loc"][0]), fault["msg"]) for fault in error.errors(include_input=False, include_url=False)
    ]


def _fault(field: str, message: str) -> str:
    variable = field.upper()
    (example,) = GatewaySettings.model_fields[field].examples or [""]
    return f"{variable}: {message.removeprefix('Value error, ')}. For example: {variable}={example}"

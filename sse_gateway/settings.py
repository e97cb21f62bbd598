"""The gateway's settings: the environment, or `.env` in the working folder; read once, checked once, at the start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sse_gateway.caller_settings import CallerSettings
from sse_gateway.engine_settings import EngineAccessSettings
from sse_gateway.log import LogFormat

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class GatewaySettings(CallerSettings, EngineAccessSettings, BaseSettings):
    """Each field is the environment variable of the same name in capitals; the engine's share the same `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: str = Field(default="127.0.0.1", min_length=1, examples=["0.0.0.0"])  # noqa: S104 - an example, for containers
    """The address to listen on."""
    port: int = Field(default=3000, ge=0, le=65_535, examples=["3000"])
    """0 takes a free port, and the log says which."""
    max_payload_bytes: int = Field(default=3 * 1024 * 1024, ge=1, le=8_000_000, examples=["3145728"])
    """The largest request body. The engine's own limits (3 MiB of picture, 8 MiB of message) stay as they are."""

    header_timeout_seconds: Seconds = Field(default=10, examples=["10"])
    """A request whose head is not there by then is refused."""
    body_timeout_seconds: Seconds = Field(default=20, examples=["20"])
    """A request whose body pauses this long is refused; one that is slow all along gets a second more for each KiB."""
    upload_memory_bytes: int = Field(default=64 * 1024 * 1024, ge=1, examples=["67108864"])
    """How much of unanswered questions may be in memory at once; the uploads beyond it wait their turn."""
    heartbeat_seconds: Seconds = Field(default=15, examples=["15"])
    """An open stream in which nothing happens gets a comment line this often."""
    write_stall_timeout_seconds: Seconds = Field(default=30, examples=["30"])
    """A client that takes nothing for this long is cut off."""
    enable_response_compression: bool = Field(default=True, examples=["false"])
    """Whether streams are compressed for clients that ask for it (zstd, br, gzip), each write by itself."""
    drain_seconds: float = Field(default=30, ge=0, le=86_400, allow_inf_nan=False, examples=["30"])
    """How long running answers may go on after SIGTERM or SIGINT."""

    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^\s/]+", examples=["http://localhost:4318"]
    )
    """Where traces go: an OTLP/HTTP receiver. Unset: there are none."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", examples=["info"])
    log_format: LogFormat = Field(default="auto", examples=["json"])
    """`auto`: `console` on a terminal, else `json`."""


def faults(error: ValidationError | UnicodeDecodeError) -> list[str]:
    """Returns one line for each wrong setting: its variable, what to do, and an example. Values are left out."""
    if isinstance(error, UnicodeDecodeError):
        return [".env: Save it as UTF-8."]
    return [
        _fault(str(fault["loc"][0]), fault["msg"]) for fault in error.errors(include_input=False, include_url=False)
    ]


def _fault(field: str, message: str) -> str:
    variable = field.upper()
    (example,) = GatewaySettings.model_fields[field].examples or [""]
    return f"{variable}: {message.removeprefix('Value error, ')}. For example: {variable}={example}"

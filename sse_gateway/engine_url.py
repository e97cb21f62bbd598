"""What AI_ENGINE_URL may say, read into gRPC's own targets."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_HELP = "Should be http://host:port (plain), https://host:port (TLS) or dns:///name:port; several with commas between"


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """One place to connect to."""

    name: str
    """As gRPC writes it, see https://github.com/grpc/grpc/blob/master/doc/naming.md."""
    tls: bool = False
    balanced: bool = False
    """Whether to use all addresses that the name resolves to, in turn; else the first that answers."""


def engine_targets(url: str) -> list[EngineTarget]:
    """Returns the targets of a value of AI_ENGINE_URL, at least one.

    Raises:
        ValueError: It names none, or something else than `http://`, `https://` and `dns:///` addresses.
    """
    return [_target(part.strip()) for part in url.split(",")]


def _target(url: str) -> EngineTarget:
    if url.startswith("dns:///") and len(url) > len("dns:///"):
        return EngineTarget(url, balanced=True)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_HELP) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.path.strip("/"):
        raise ValueError(_HELP)
    port = port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return EngineTarget(f"dns:///{host}:{port}", tls=parts.scheme == "https")

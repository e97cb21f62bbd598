"""What AI_ENGINE_URL may say, read into gRPC's own targets."""

from __future__ import annotations

import ipaddress
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

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine: `localhost`, 127.0.0.0/8, ::1 (RFC 6761, RFC 6890)."""
        host = urlsplit(self.name.removeprefix("dns:/")).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def engine_targets(url: str, *, tls_names: bool = False) -> list[EngineTarget]:
    """Returns the targets of a value of AI_ENGINE_URL, at least one.

    Args:
        url: The value.
        tls_names: Whether there is TLS to talk behind `dns:///`, which does not say so itself.

    Raises:
        ValueError: It names none, or something else than `http://`, `https://` and `dns:///` addresses.
    """
    return [_target(part.strip(), tls_names) for part in url.split(",")]


def _target(url: str, tls_names: bool) -> EngineTarget:
    if url.startswith("dns:///") and len(url) > len("dns:///"):
        return EngineTarget(url, tls=tls_names, balanced=True)
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

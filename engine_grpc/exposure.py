"""Who can reach the engine: what other machines reach needs TLS, and callers that are known."""

from __future__ import annotations

import ipaddress
import re

_TOKEN = re.compile(r"[\x21-\x7e]{32,}")


def is_loopback(host: str) -> bool:
    """Tells whether this machine alone reaches a host: `localhost`, 127.0.0.0/8, ::1 (RFC 6761, RFC 6890).

    Other names are not looked up: what they mean can change.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def missing_protection(host: str, *, tls: bool, callers_known: bool) -> list[str]:
    """Returns the settings without which the engine should not listen on a host; none on loopback.

    Args:
        host: Where it is to listen.
        tls: Whether it has a certificate.
        callers_known: Whether callers show a token, or a certificate of their own.
    """
    if is_loopback(host):
        return []
    certificate = [] if tls else ["ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE"]
    return certificate + ([] if callers_known else ["SERVICE_TOKEN or ENGINE_TLS_CLIENT_CA_FILE"])


def service_tokens(value: str) -> list[str]:
    """Returns the tokens of a value of SERVICE_TOKEN, at least one.

    Raises:
        ValueError: One of them is too short, or has other characters.
    """
    tokens = [token.strip() for token in value.split(",")]
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError(
            "Must be at least 32 visible ASCII characters, no comma among them, such as `openssl rand -hex 32` makes; "
            "several with commas between"
        )
    return tokens

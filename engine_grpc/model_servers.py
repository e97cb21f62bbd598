"""Which base URLs name the same model's server, however they are spelt."""

from __future__ import annotations

from urllib.parse import urlsplit

OPENAI_URL = "https://api.openai.com/v1"
_PORTS = {"http": 80, "https": 443}


def server(base_url: str | None) -> tuple[str, str, int]:
    """Returns a base URL's scheme, host and port. None is OpenAI's.

    Raises:
        ValueError: It is no address of HTTP, or its port is none.
    """
    parts = urlsplit(base_url or OPENAI_URL)
    if parts.scheme not in _PORTS or not parts.hostname or " " in parts.hostname:
        raise ValueError("neither http:// nor https://, or without a host")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def is_openai(base_url: str | None) -> bool:
    """Whether OpenAI itself is there."""
    return server(base_url)[1] == server(None)[1]


def same_place(one: str | None, other: str | None) -> bool:
    """Whether two base URLs come to the same: on one server, different paths may be different models."""
    return _place(one) == _place(other)


def _place(base_url: str | None) -> tuple[object, ...]:
    parts = urlsplit(base_url or OPENAI_URL)
    return *server(base_url), parts.path.rstrip("/"), parts.query

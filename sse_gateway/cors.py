"""Which pages of other origins may use the gateway from a browser; see the Fetch standard, CORS protocol.

No credentials: a token comes in a header that the page itself sets, never in a cookie.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from fastapi import FastAPI

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]+)?")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")
_HELP = (
    "Must be origins as browsers send them, with commas between: scheme://host:port in small letters, without a "
    "default port or a path; or * for every page there is"
)
_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "X-Request-Id",
    "X-Request-Timeout-Ms",
)
_RESPONSE_HEADERS = ("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id")


def origins(text: str) -> list[str]:
    """Returns the origins that CORS_ALLOW_ORIGINS names.

    Raises:
        ValueError: It names something else.
    """
    named = [part.strip() for part in text.split(",")]
    if named != ["*"] and not all(map(_is_origin, named)):
        raise ValueError(_HELP)
    return named


def _is_origin(text: str) -> bool:
    return bool(_ORIGIN.fullmatch(text)) and not _DEFAULT_PORT.fullmatch(text)


def allow_origins(app: FastAPI, allowed: str) -> None:
    """Lets pages of other origins use the application.

    Args:
        app: Whose other middleware is there already: whatever refuses a request, a page may read why.
        allowed: As CORS_ALLOW_ORIGINS.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins(allowed),
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_RESPONSE_HEADERS,
    )

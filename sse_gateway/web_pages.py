"""The web client: the files in `web/`, each compressed once, under a policy that lets in nothing but themselves."""

from __future__ import annotations

import functools
import hashlib
import mimetypes
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import brotli
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

_FILES = Path(__file__).parent / "web"
_PAGES = {"/": "index.html", "/playground": "playground.html"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
    # Asked again each time, and mostly told that nothing has changed.
    "Cache-Control": "no-cache",
}
_PACKED = {".woff2"}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def add_web_client(app: FastAPI) -> None:
    """Serves the page for students at `/`, the one for developers at `/playground`, and what they need below `/web`."""
    for path, name in _PAGES.items():
        app.router.routes.append(Route(path, functools.partial(_page, name)))
    app.router.routes.append(Route("/web/{path:path}", _asset))


async def _page(name: str, request: Request) -> Response:
    return _answer(name, request)


async def _asset(request: Request) -> Response:
    return _answer(request.path_params["path"], request)


def _answer(name: str, request: Request) -> Response:
    accepted = request.headers.get("accept-encoding", "")
    coding = next((coding for coding in ("br", "gzip") if coding in accepted), "")
    if Path(name).suffix in _PACKED:
        coding = ""
    file = _read(name, coding)
    headers = {**_HEADERS, "ETag": file.etag, **({"Content-Encoding": coding} if coding else {})}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.media_type)


@functools.lru_cache(maxsize=256)
def _read(name: str, coding: str) -> _File:
    """Returns a file as it is sent; it is read and compressed once.

    Raises:
        HTTPException: 404, there is none of this name.
    """
    if name not in _names():
        raise HTTPException(404)
    body = (_FILES / name).read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}{coding}"'
    if coding == "br":
        body = brotli.compress(body, quality=9)
    elif coding == "gzip":
        body = zlib.compress(body, 9, 16 + 15)
    return _File(body, mimetypes.guess_type(name)[0] or "application/octet-stream", etag)


@functools.cache
def _names() -> frozenset[str]:
    """What there is: names from outside are looked up here, and never in the file system."""
    return frozenset(str(path.relative_to(_FILES)) for path in _FILES.rglob("*") if path.is_file())

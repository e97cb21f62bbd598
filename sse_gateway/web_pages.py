"""The web client: the files in `web/`, each compressed once, under a policy that lets in nothing but themselves.

They are below a path with a digest of all of them, `/web/{version}/…`, and refer to each other relative to it. So the
pages alone are asked for again, and a new version is fetched as a whole, never a mix of two.
"""

from __future__ import annotations

import functools
import hashlib
import mimetypes
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import brotli
import zstandard
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from sse_gateway.compression import negotiated

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from starlette.requests import Request

_FILES = Path(__file__).parent / "web"
_PAGES = {"/": "index.html", "/playground": "playground.html"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types dompurify"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASKED_AGAIN = "no-cache"
"""Each time, and mostly told that nothing has changed."""
_PACKED = {".woff2"}
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "br": functools.partial(brotli.compress, quality=11),
    "zstd": lambda body: zstandard.ZstdCompressor(level=19).compress(body),  # a compressor is one thread's
    "gzip": functools.partial(zlib.compress, level=9, wbits=16 + 15),
    "": bytes,
}
_CODINGS = tuple(filter(None, _COMPRESS))
"""The best first: what is compressed once is best compressed by brotli, whose memory is held for a moment."""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def add_web_client(app: FastAPI) -> None:
    """Serves the page for students at `/`, the one for developers at `/playground`, and what they need below `/web`."""
    for path, name in _PAGES.items():
        app.router.routes.append(Route(path, functools.partial(_page, name)))
    app.router.routes.append(Route("/web/{version}/{path:path}", _asset))


async def _page(name: str, request: Request) -> Response:
    return await _answer(name, request, _ASKED_AGAIN)


async def _asset(request: Request) -> Response:
    # Another version is asked for while gateways are replaced: it gets what there is, and must not keep it.
    caching = _FOR_EVER if request.path_params["version"] == _version() else _ASKED_AGAIN
    return await _answer(request.path_params["path"], request, caching)


async def _answer(name: str, request: Request, caching: str) -> Response:
    packed = Path(name).suffix in _PACKED
    coding = "" if packed else negotiated(request.headers.get("accept-encoding", ""), _CODINGS) or ""
    # To compress takes up to a second, once, and the streams go on meanwhile.
    file = await run_in_threadpool(_read, name, coding)
    headers = {**_HEADERS, "Cache-Control": caching, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if coding:
        headers["Content-Encoding"] = coding
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
    if name in _PAGES.values():
        body = body.replace(b'"/web/', f'"/web/{_version()}/'.encode())
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}{coding}"'
    return _File(_COMPRESS[coding](body), mimetypes.guess_type(name)[0] or "application/octet-stream", etag)


@functools.cache
def _names() -> frozenset[str]:
    """What there is: names from outside are looked up here, and never in the file system."""
    return frozenset(str(path.relative_to(_FILES)) for path in _FILES.rglob("*") if path.is_file())


@functools.cache
def _version() -> str:
    """A digest of all files."""
    digest = hashlib.sha256()
    for name in sorted(_names()):
        digest.update(name.encode() + b"\0" + (_FILES / name).read_bytes())
    return digest.hexdigest()[:12]

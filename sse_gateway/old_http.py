"""What clients of HTTP/1.0 and of proxies send and understand, and uvicorn does not (RFC 9112)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class OldHTTP:
    """An application for one request of HTTP/1.0, which knows neither chunks nor 100 (RFC 9112, 6.1; RFC 9110, 10.1.1).

    A response without a length ends where its connection does, which uvicorn closes behind each.

    Args:
        app: What it wraps.
        cycle: The response.
    """

    def __init__(self, app: ASGI3Application, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        cycle.waiting_for_100_continue = False
        cycle.chunked_encoding = False

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serves the request; see the ASGI specification."""

        async def plain(message: ASGISendEvent) -> None:
            # uvicorn counts down to the end: each piece is all that is left.
            if message["type"] == "http.response.body":
                self._cycle.expected_content_length = len(message["body"])
            await send(message)

        await self._app(scope, receive, plain)


def with_path(url: bytes) -> bytes:
    """Returns a request's target with the path that an absolute one may lack (RFC 9112, 3.2.2; RFC 9110, 4.2.3)."""
    if not url[:8].lower().startswith((b"http://", b"https://")):
        return url
    address, mark, query = url.partition(b"?")
    return address + b"/" + mark + query if address.count(b"/") == 2 else url

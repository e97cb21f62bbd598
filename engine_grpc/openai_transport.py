"""How a request gets to an OpenAI-compatible server, and the body of its response back as the socket delivers it.

The SDK knows how such a server is addressed: its base URL, credentials and headers, some of them from variables of the
environment of its own. They are asked for once. The requests are sent with aiohttp, which the SDK would use as well:
its own way there, through option models, httpx2 and back, takes a millisecond before each first token, and hands over a
body by the HTTP chunk. Here a reader takes everything that has come with one wake-up, whatever it was cut into.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import EmptyStreamReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from openai import AsyncOpenAI

BROKEN_CONNECTION = (aiohttp.ClientError, OSError)
"""What reading or sending raises when the connection fails."""
_CONNECT_TIMEOUT_SECONDS = 10
_SLICE_BYTES = 64 * 1024
# Identity: a compressed stream saves nothing between servers, and can be a bomb.
_HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}


class Body:
    """A response's body, as it comes. Close it after use."""

    __slots__ = ("_content", "_response")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = _Pieces.of(response.content)

    async def read(self) -> bytes:
        """Returns all that has come, as soon as there is any; nothing at the end, or where it broke off."""
        try:
            return await self._content.readany()
        except BROKEN_CONNECTION:
            return b""

    @property
    def over(self) -> bool:
        """Whether it has been read to its end."""
        return self._content.at_eof()

    def forget_head(self) -> None:
        """Lets go of the headers, of both ways: some kilobytes, and the body may take minutes."""
        response: Any = self._response
        response._headers = response._raw_headers = response._request_info = None

    def close(self) -> None:
        """Lets go of the connection: it is used again if all was read, and closed otherwise."""
        self._response.release()


class Transport:
    """Connections to one server. Follows no redirect, decodes nothing, and waits without end but for connecting.

    Args:
        client: How the server is addressed.
        max_connections: How many at once.
        direct: Whether to ignore the proxy that the environment names for the server (HTTPS_PROXY, NO_PROXY).
    """

    def __init__(self, client: AsyncOpenAI, max_connections: int, *, direct: bool) -> None:
        self._url = f"{client.base_url}chat/completions"
        self._headers = {**_wire_headers(client.default_headers), **client.auth_headers, **_HEADERS}
        self._proxy = None if direct else _proxy(self._url)
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def post(self, content: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Sends a request, with headers beside the usual ones, and returns its response: only its head has come.

        Raises:
            aiohttp.ClientError: The server cannot be reached, or broke off.
            OSError: As above.
        """
        self._session = self._session or self._open()
        payload = content if len(content) <= _SLICE_BYTES else _slices(content)
        headers = {**self._headers, **headers, "Content-Length": str(len(content))}
        return await self._session.post(
            self._url, data=payload, headers=headers, allow_redirects=False, proxy=self._proxy
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._session:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Returns a session, which belongs to the loop that it is made in."""
        return aiohttp.ClientSession(
            connector=_Connector(limit=self._max_connections, ssl=httpx2.create_ssl_context()),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


class _Pieces(aiohttp.StreamReader):
    """aiohttp's reader of a body, without its list of where the HTTP chunks end."""

    __slots__ = ()
    _buffer: Any  # of aiohttp a deque, which is most of a kilobyte when it is empty

    @classmethod
    def of(cls, reader: aiohttp.StreamReader) -> aiohttp.StreamReader:
        """Turns a reader of aiohttp's into one of these: its parser makes no others."""
        if not isinstance(reader, EmptyStreamReader):
            reader.__class__ = cls
            pieces: Any = list(reader._buffer)
            reader._buffer, reader._http_chunk_splits = pieces, None
        return reader

    def begin_http_chunk_receiving(self) -> None:
        """Notes nothing."""

    def end_http_chunk_receiving(self) -> None:
        """Notes nothing."""

    async def readany(self) -> bytes:
        """Returns all that has come; see `aiohttp.StreamReader.readany`."""
        if self._exception is not None:
            raise self._exception
        while not self._buffer and not self._eof:
            await self._wait("readany")
        pieces, self._buffer, self._size = self._buffer, [], 0
        if self._protocol._reading_paused:  # else the parser would look for what it has left, and it has nothing
            self._protocol.resume_reading()
        return b"".join(pieces)


class _Connector(aiohttp.TCPConnector):
    """aiohttp's, with connections of ours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = functools.partial(_Connection, loop=asyncio.get_running_loop())


class _Connection(ResponseHandler):
    """aiohttp's (3.14), with what a relay needs of it besides."""

    __slots__ = ()

    def set_exception(self, *reason: Any) -> None:
        """Fails, and tells the reader of the body too, who else would wait where its framing is broken."""
        super().set_exception(*reason)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.feed_eof()

    def is_connected(self) -> bool:
        """Whether it can be used: not if there is a response already, to a request that nobody has made."""
        return super().is_connected() and not self._buffer

    def close(self) -> None:
        """Closes it at once: politely, it would wait for the server to take a picture that nobody asks about now."""
        self.abort()


def _wire_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Returns the headers but for those in which the SDK describes itself."""
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str) and not name.lower().startswith("x-stainless-")
    }


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    """Yields a body in pieces: a large one is sent as fast as it is taken, and other answers have their turn."""
    for start in range(0, len(content), _SLICE_BYTES):
        yield content[start : start + _SLICE_BYTES]


def _proxy(url: str) -> str | None:
    """Returns the proxy that the environment names for a server, if it does."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)

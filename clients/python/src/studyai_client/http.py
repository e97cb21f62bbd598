"""Steps over HTTP: the connections of both clients. What is said on them is in `http_wire`."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any

import httpx2

from studyai_client import http_wire as wire
from studyai_client.options import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from studyai_client.events import Answer
    from studyai_client.options import Address, Tls
    from studyai_client.progress import Ask, Complete, Numbered, Resume

_KEPT = 20
"""Connections that wait for the next question."""


def _tells_no_secret(record: logging.LogRecord) -> bool:
    """Takes a student's id and a password out of the addresses that httpx2 logs: a log is no place to read them."""
    if isinstance(record.args, tuple):
        record.args = tuple(_shown(given) if isinstance(given, httpx2.URL) else given for given in record.args)
    return True


def _shown(url: httpx2.URL) -> httpx2.URL:
    return url.copy_remove_param("student_id").copy_with(userinfo=b"")


logging.getLogger("httpx2").addFilter(_tells_no_secret)


class HttpTransport:
    """Blocks while it waits. Each request has a connection of its own, which a deadline can break: see `_bounded`."""

    def __init__(self, address: Address, token: str | None, tls: Tls) -> None:
        unshared = httpx2.Limits(max_keepalive_connections=0)
        self._client = httpx2.Client(**wire.client_arguments(address, token, tls), limits=unshared)
        self._extensions = wire.extensions(tls)

    def stream(self, step: Ask | Resume, deadline: Deadline) -> Generator[Numbered]:
        """Yields the events as they come. Close it to close the connection.

        Raises:
            StudyAIError: They ended early, or did not begin.
        """
        request = wire.stream_request(step, deadline)
        with (
            wire.told_as_ours(deadline),
            _bounded(deadline) as trace,
            self._client.stream(**request.arguments, extensions=self._extensions | trace) as reply,
        ):
            if not wire.is_stream(reply):
                reply.read()
                raise wire.refusal(reply, streaming=True)
            for told in httpx2.EventSource(reply):
                if numbered := wire.event_of(told):
                    yield numbered
            deadline.remaining()  # an end that the deadline made looks like any other

    def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """Returns the whole answer.

        Raises:
            StudyAIError: There is none.
        """
        return wire.answer_of(self._request(wire.complete_request(step, deadline), deadline))

    def stop(self, answer_id: str, student_id: str) -> None:
        """Stops an answer.

        Raises:
            StudyAIError: It cannot be.
        """
        self._request(wire.stop_request(answer_id, student_id), Deadline(None))

    def close(self) -> None:
        """Closes every connection."""
        self._client.close()

    def _request(self, request: wire.HttpRequest, deadline: Deadline) -> bytes:
        with wire.told_as_ours(deadline), _bounded(deadline) as trace:
            reply = self._client.request(**request.arguments, extensions=self._extensions | trace)
            deadline.remaining()  # as above
        if not reply.is_success:
            raise wire.refusal(reply, streaming=False)
        return reply.content


class AsyncHttpTransport:
    """The same for asyncio."""

    def __init__(self, address: Address, token: str | None, tls: Tls) -> None:
        # As many as there are answers: the 101st, and whoever wants to stop one, would wait for another's end.
        unlimited = httpx2.Limits(max_connections=None, max_keepalive_connections=_KEPT)
        self._client = httpx2.AsyncClient(**wire.client_arguments(address, token, tls), limits=unlimited)
        self._extensions = wire.extensions(tls)

    async def stream(self, step: Ask | Resume, deadline: Deadline) -> AsyncGenerator[Numbered]:
        """See `HttpTransport.stream`."""
        request = wire.stream_request(step, deadline)
        with wire.told_as_ours(deadline):
            async with self._client.stream(**request.arguments, extensions=self._extensions) as reply:
                if not wire.is_stream(reply):
                    await reply.aread()
                    raise wire.refusal(reply, streaming=True)
                async for told in httpx2.EventSource(reply):
                    if numbered := wire.event_of(told):
                        yield numbered

    async def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """See `HttpTransport.complete`."""
        return wire.answer_of(await self._request(wire.complete_request(step, deadline), deadline))

    async def stop(self, answer_id: str, student_id: str) -> None:
        """See `HttpTransport.stop`."""
        await self._request(wire.stop_request(answer_id, student_id), Deadline(None))

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    async def _request(self, request: wire.HttpRequest, deadline: Deadline) -> bytes:
        with wire.told_as_ours(deadline):
            reply = await self._client.request(**request.arguments, extensions=self._extensions)
        if not reply.is_success:
            raise wire.refusal(reply, streaming=False)
        return reply.content


@contextmanager
def _bounded(deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Breaks a request's connection at the deadline, whatever still comes or goes: httpx2's time-outs are of each read.

    Yields the extension that tells which connection it is (https://www.python-httpx.org/advanced/extensions/#trace).
    """
    left = deadline.remaining()
    if left is None:
        yield {}
        return
    connection = _Connection()
    timer = threading.Timer(left, connection.end)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": connection.traced}
    finally:
        timer.cancel()


class _Connection:
    """The connection of one request, to be ended from another thread."""

    def __init__(self) -> None:
        self._socket: socket | None = None
        self._ended = False

    def traced(self, name: str, info: dict[str, Any]) -> None:
        """Takes note of the connection, and of the one with TLS that it becomes."""
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._ended:
                self.end()

    def end(self) -> None:
        """Wakes up whoever reads it or writes to it."""
        self._ended = True
        if self._socket:
            with suppress(OSError):  # it has ended by itself
                # Not SSLSocket's own, which makes a read that runs beside it fail in a way of its own.
                socket.shutdown(self._socket, SHUT_RDWR)

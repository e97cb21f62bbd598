"""HTTP/1.1 on one connection: uvicorn's own protocol, with the patience that it lacks.

A request has to arrive: its head within a time and a size, its body without long pauses and not arbitrarily slowly (the
rule of Apache's mod_reqtimeout: so much time, and more as bytes arrive). Whoever does not keep to that is told 408 or
431 if it can still be told, and is cut. A phone that vanished without a word is the kernel's to notice (RFC 5482).
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sse_gateway.disconnect import Client
from sse_gateway.errors import ErrorCode, GatewayError, error_response
from sse_gateway.head_first import HeadFirst
from sse_gateway.old_http import OldHTTP, with_path
from sse_gateway.record import RequestRecord
from sse_gateway.socket_options import UNSENT_BYTES

if TYPE_CHECKING:
    import asyncio

    from uvicorn._types import ASGI3Application

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MIN_BODY_BYTES_PER_SECOND = 1024
"""A body that arrives more slowly than this, on the whole, is not waited for."""

_MAX_TINY_PIECES = 4096
_TINY_BYTES = 16
_TOO_LARGE = (431, "The request's head is too large.")
_OFFER = {b"upgrade", b"connection", b"http2-settings"}
_NOBODY: deque[Any] = deque()
"""In place of uvicorn's queue of pipelined requests, of which there are none here: empty it is most of a kilobyte."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a request may take to arrive, in seconds."""

    head: float
    """From its first byte, or from the connection's start, to the end of its head."""
    body: float
    """Between two of its pieces; and in all, with a second more for each `MIN_BODY_BYTES_PER_SECOND`."""


class PipeliningError(Exception):
    """A client did not wait for the answer to its request (RFC 9112, section 9.3.2): it may ask again."""


class HeadTooLargeError(Exception):
    """A request's head is larger than anybody has a use for."""


class TinyPiecesError(Exception):
    """A body comes in more pieces than anybody has a use for."""


class GatewayProtocol(HttpToolsProtocol):
    """One connection. Its requests find in their state the `Client` at its other end."""

    # With more in its dictionary than uvicorn's own that would be a kilobyte larger, for each connection.
    __slots__ = (
        "_arriving",
        "_begun",
        "_body_bytes",
        "_client",
        "_head_bytes",
        "_in_body",
        "_last",
        "_pieces",
        "_serving",
        "_size",
        "_timer",
    )
    timeouts: Timeouts
    """Set by `with_timeouts`: uvicorn makes the protocols itself, from a class."""

    @classmethod
    def with_timeouts(cls, timeouts: Timeouts) -> type[GatewayProtocol]:
        """Returns the protocol for a server with these limits."""
        return type(cls.__name__, (cls,), {"__slots__": (), "timeouts": timeouts})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Takes the connection over; see `asyncio.Protocol`."""
        super().connection_made(transport)
        self.pipeline = _NOBODY
        self._client = Client(self.flow, transport.abort)
        self.app_state = {**self.app_state, "client": self._client}
        transport.set_write_buffer_limits(UNSENT_BYTES)
        self._serving: RequestResponseCycle | None = None
        self._arriving = False
        """Whether a request has begun that is not all here."""
        self._in_body = False
        self._size = self._head_bytes = 0
        self._begun = self._last = self.loop.time()
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.timeouts.head, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets go; see `asyncio.Protocol`."""
        self._stop_timer()
        self._left_application()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on; see `asyncio.Protocol`."""
        if self.transport.is_closing():
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
            return
        except httptools.HttpParserError:
            too_large = self._head_bytes > MAX_HEAD_BYTES
            self._refuse(*(_TOO_LARGE if too_large else (400, "This is not an HTTP/1.1 request.")))
            return
        self._arrived(len(data))

    def _decline(self, rest: bytes) -> None:
        """Takes a request that offers another protocol as what it is otherwise (RFC 9110, section 7.8).

        The parser leaves the body of such a request unread, and with it the questions of Java's and curl's clients,
        which offer HTTP/2: it is given the same head again, without the offer.
        """
        if self.parser.get_method() == b"CONNECT":
            self._in_body = False
            self._refuse(405, "This service is no proxy.")
            return
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b\r\n" % header for header in self.headers if header[0] not in _OFFER]
        if not self.parser.should_keep_alive():
            head.append(b"connection: close\r\n")
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def on_message_begin(self) -> None:
        """A request begins; see `httptools.HttpRequestParser`.

        Raises:
            PipeliningError: Another is being served. While uvicorn holds a request back it does not read, and so it
                would not see that the client leaves.
        """
        if self._serving and not self._serving.response_complete:
            raise PipeliningError
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._arriving, self._in_body, self._size, self._head_bytes = True, False, 0, 0
        self._begun = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A piece of a request's address is here."""
        self._count(url)
        super().on_url(url)

    def _count(self, *parts: bytes) -> None:
        """Counts the head's bytes, which may all have come at once."""
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLargeError

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a request's head is here. One behind its body is no header (RFC 9110, section 6.5.1)."""
        if not self._in_body:
            self._count(name, value)
            super().on_header(name, value.rstrip(b" \t"))  # white space behind it is not its own: RFC 9110, 5.5

    def on_headers_complete(self) -> None:
        """A request's head is here."""
        self._stop_timer()
        self.url = with_path(self.url)
        if not self.parser.should_upgrade():
            super().on_headers_complete()  # fails on an address that is none, which is still the head's fault
        self._in_body, self._size, self._pieces, self._body_bytes = True, 0, 0, 0
        self._begun = self._last = self.loop.time()

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body is here.

        Raises:
            TinyPiecesError: It is one of very many that hold next to nothing: each costs as much as a large one.
        """
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > _MAX_TINY_PIECES and self._body_bytes < self._pieces * _TINY_BYTES:
            raise TinyPiecesError
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is all here."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._arriving = False
        if self.cycle.response_complete:
            self.on_response_complete()

    def on_response_complete(self) -> None:
        """A response is all written. What is left of its request is read, and not kept: closing now would undo it."""
        super().on_response_complete()
        if self._arriving:
            self._unset_keepalive_if_required()
            self._begun = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._serving = cycle
        self.headers = []  # They are the application's now, which lets go of them when it streams.
        if cycle.scope["http_version"] == "1.0":
            app = OldHTTP(app, cycle)
        if cycle.scope["method"] != "HEAD":  # nothing follows that one's head
            cycle.transport = HeadFirst(cycle)  # type: ignore[assignment]  # all of a transport that a cycle uses
        super()._start_asgi_task(cycle, app)

    def _arrived(self, size: int) -> None:
        """Counts, and keeps the time of a request that is not all here."""
        if not self._arriving:
            if self._serving:  # else it is still waited for: an empty line before a request is none
                self._stop_timer()
            return
        self._size += size
        self._last = self.loop.time()
        if self._size > MAX_HEAD_BYTES and not self._in_body:
            self._refuse(*_TOO_LARGE)
        elif self._in_body and self._size - 2 * self._body_bytes > 2 * MAX_HEAD_BYTES:
            self._refuse(431, "There is too much around the request's body.")
        elif self._timer is None:
            self._timer = self.loop.call_at(self._deadline(), self._check)

    def _deadline(self) -> float:
        if not self._in_body:
            return self._begun + self.timeouts.head
        if self.cycle.response_complete:
            return self._begun + self.timeouts.body
        return min(self._last, self._begun + self._size / MIN_BODY_BYTES_PER_SECOND) + self.timeouts.body

    def _check(self) -> None:
        """Ends what is too late; looks again later at what has moved on, or waits for us."""
        self._timer = None
        if self._in_body and self.flow.read_paused:
            self._begun = self._last = self.loop.time()
        deadline = self._deadline()
        if deadline > self.loop.time():
            self._timer = self.loop.call_at(deadline, self._check)
        elif self._arriving:
            self._refuse(408, "The request did not arrive in time.")
        else:
            self.transport.close()  # Nothing of a request came: there is nothing to answer.

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers what has not arrived, unless an answer has begun, and closes the connection."""
        self._stop_timer()
        serving = self._left_application()
        if serving and (serving.response_started or not serving.more_body):
            self.transport.abort()  # Nothing may follow what was begun, or come in place of what was asked before.
            return
        answered = self._arriving and self._in_body and not serving
        if not answered:
            self.transport.write(_refusal(status, sentence, serving))
        self.transport.close()

    def _left_application(self) -> RequestResponseCycle | None:
        """Returns the request that is being served, if any, and tells the application that its client is gone."""
        serving = self._serving
        if serving is None or serving.response_complete:
            return None
        serving.disconnected = True
        serving.message_event.set()
        self._client.leave()
        return serving

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _refusal(status: int, sentence: str, serving: RequestResponseCycle | None) -> bytes:
    """Returns a whole response, as bytes. It is logged here, unless the application does that for its request."""
    known: RequestRecord | None = serving.scope["state"].get("record") if serving else None
    record = known or RequestRecord(uuid.uuid4().hex)
    response = error_response(GatewayError(ErrorCode.INVALID_REQUEST, sentence), record, status=status)
    record.status = status
    if not known:
        log.info("request refused", status=status, request_id=record.request_id)
    headers = [*response.raw_headers, (b"x-request-id", record.request_id.encode()), (b"connection", b"close")]
    return b"".join([STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", response.body])

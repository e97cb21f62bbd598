"""A response's head and the first of its body, as one write: each is a call of the system, and wakes the other end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class HeadFirst:
    """The way out of one of uvicorn's responses, until its head has left.

    Args:
        cycle: The response. It writes to its transport itself from then on.
    """

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keeps the head, and writes it with what follows; see `asyncio.WriteTransport`."""
        if not self._cycle.response_started:
            self._transport.write(data)  # 100 Continue
        elif self._head is None:
            self._head = data
        else:
            self._cycle.transport = self._transport
            self._transport.write(self._head + data)

    def close(self) -> None:
        """Closes the connection: nothing follows the head, and so that is no response; see `asyncio.WriteTransport`."""
        self._transport.close()

    def is_closing(self) -> bool:
        """See `asyncio.WriteTransport`."""
        return self._transport.is_closing()

"""The client's leaving, as the end of whatever is being done for it.

uvicorn tells of it where a request asks for more of its body, and a task for each stream would have to wait there. Here
the connection itself tells.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from starlette.types import Scope
    from uvicorn.protocols.http.flow_control import FlowControl


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


class Client:
    """The other end of a connection, which its protocol puts into the scope's state as `client`.

    Args:
        flow: The connection's, in both directions.
        abort: Ends the connection at once, whatever is still to be sent.
    """

    __slots__ = ("_flow", "abort", "gone", "on_gone")

    def __init__(self, flow: FlowControl, abort: Callable[[], None]) -> None:
        self._flow = flow
        self.abort = abort
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        """Called when it leaves."""

    @classmethod
    def of(cls, scope: Scope) -> Client:
        """Returns the one that sent a request."""
        client: Client = scope["state"]["client"]
        return client

    @property
    def paused(self) -> bool:
        """Whether it takes nothing just now."""
        return self._flow.write_paused

    def listen(self) -> None:
        """Has the connection read on, where it was held up: only by reading it notices that a client leaves."""
        self._flow.resume_reading()

    def leave(self) -> None:
        """It has left. Once is enough, more does no harm."""
        if not self.gone:
            self.gone = True
            if self.on_gone:
                self.on_gone()


class while_connected:  # noqa: N801 - used like a function, as asyncio.timeout is
    """Cancels its body as soon as the client is gone. To be entered when the request's body has been read.

    The disconnect is a deadline that comes when it comes: `asyncio.timeout` knows how to cancel the task and how to
    tell this cancellation from others.

    Raises:
        ClientGoneError: The client left.
    """

    __slots__ = ("_client", "_connection")

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __aenter__(self) -> None:
        self._connection = asyncio.timeout(0 if self._client.gone else None)
        await self._connection.__aenter__()
        self._client.on_gone = self._end
        self._client.listen()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.on_gone = None
        try:
            await self._connection.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise ClientGoneError from None

    def _end(self) -> None:
        self._connection.reschedule(asyncio.get_running_loop().time())

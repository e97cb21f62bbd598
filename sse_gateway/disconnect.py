"""The client's leaving, as the end of whatever is being done for it.

uvicorn tells of it where a request asks for more of its body, and a task for each stream would have to wait there. Here
the connection itself tells.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Scope


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


class Client:
    """The other end of a connection, which its protocol puts into the scope's state as `client`.

    Args:
        listen: Has the connection read on, where it was held up: only by reading it notices that a client leaves.
    """

    def __init__(self, listen: Callable[[], None]) -> None:
        self.listen = listen
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        """Called when it leaves."""

    @classmethod
    def of(cls, scope: Scope) -> Client:
        """Returns the one that sent a request."""
        client: Client = scope["state"]["client"]
        return client

    def leave(self) -> None:
        """It has left. Once is enough, more does no harm."""
        if not self.gone:
            self.gone = True
            if self.on_gone:
                self.on_gone()


@asynccontextmanager
async def while_connected(client: Client) -> AsyncIterator[None]:
    """Cancels its body as soon as the client is gone. To be entered when the request's body has been read.

    The disconnect is a deadline that comes when it comes: `asyncio.timeout` knows how to cancel the task and how to
    tell this cancellation from others.

    Raises:
        ClientGoneError: The client left.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(0 if client.gone else None) as connection:
            client.on_gone = lambda: connection.reschedule(loop.time())
            client.listen()
            try:
                yield
            finally:
                client.on_gone = None
    except TimeoutError:
        if connection.expired():
            raise ClientGoneError from None
        raise

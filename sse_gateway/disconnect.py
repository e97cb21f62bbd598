"""The client's leaving, as the end of whatever is being done for it.

uvicorn tells of a disconnect in one place only: `receive()`. Its `send()` returns as if all were well.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancels its body as soon as the client is gone. To be entered when the request's body has been read.

    The disconnect is a deadline that comes when it comes: `asyncio.timeout` knows how to cancel the task and how to
    tell this cancellation from others.

    Raises:
        ClientGoneError: The client left.
    """
    try:
        async with asyncio.timeout(None) as connection:
            watcher = asyncio.create_task(_watch(receive, connection))
            try:
                yield
            finally:
                watcher.cancel()
                await asyncio.wait({watcher})
    except TimeoutError:
        if connection.expired():
            raise ClientGoneError from None
        raise


async def _watch(receive: Receive, connection: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.reschedule(asyncio.get_running_loop().time())

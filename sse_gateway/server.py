"""uvicorn, with what it does not offer: telling the application that it is to stop, and cutting a connection."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from fastapi import FastAPI

    from sse_gateway.dependencies import Lifecycle
    from sse_gateway.settings import GatewaySettings


_LAST_WORDS_SECONDS = 2
"""For the clients whose answers draining ended to be told, before uvicorn cuts them off."""


class GatewayServer(uvicorn.Server):
    """Drains at the first signal, ends at the second, and leaves with 0 either way.

    Args:
        config: From `server_config`.
        lifecycle: Is told when it drains.
        drain_seconds: How long running answers may go on after the first signal.
        end_answers: Ends those that then still do, with DRAINING.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float, end_answers: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self._end_answers = end_answers

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles SIGTERM and SIGINT. uvicorn's own would raise the signal again when all is done."""
        self._lifecycle.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for the running answers, and ends them in time; see `uvicorn.Server`."""
        ending = asyncio.get_running_loop().call_later(self._drain_seconds, self._end_answers)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()


class GatewayProtocol(H11Protocol):
    """HTTP/1.1, whose requests find in their state how to cut their connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Takes the connection over; see `asyncio.Protocol`."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": transport.abort}


def server_config(app: FastAPI, settings: GatewaySettings) -> uvicorn.Config:
    """Returns how uvicorn is to serve the application."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=GatewayProtocol,
        ws="none",
        # The application logs each request itself, at its end.
        access_log=False,
        log_config=None,
        log_level=settings.log_level,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds + _LAST_WORDS_SECONDS),
    )

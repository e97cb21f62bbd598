"""uvicorn, with what it does not offer: telling the application that it is to stop, and cutting a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from fastapi import FastAPI

    from sse_gateway.dependencies import Lifecycle
    from sse_gateway.settings import GatewaySettings


class GatewayServer(uvicorn.Server):
    """Drains at the first signal, ends at the second, and leaves with 0 either way."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles SIGTERM and SIGINT. uvicorn's own would raise the signal again when all is done."""
        self._lifecycle.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True


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
        timeout_graceful_shutdown=settings.drain_seconds,
    )

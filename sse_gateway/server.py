"""uvicorn, with what it does not offer: telling the application that it is to stop, and cutting a connection."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import structlog
import uvicorn

from sse_gateway.protocol import GatewayProtocol, Timeouts
from sse_gateway.socket_options import set_options

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from fastapi import FastAPI

    from sse_gateway.lifecycle import Lifecycle
    from sse_gateway.settings import GatewaySettings


log = structlog.get_logger(__name__)

_LAST_WORDS_SECONDS = 2
"""For the clients whose answers draining ended to be told, before uvicorn cuts them off."""
_POLL_SECONDS = 0.05


class GatewayServer(uvicorn.Server):
    """Drains at the first signal, ends at the second, and leaves with 0 either way.

    While it drains it listens on, not ready and refusing work: a balancer needs a moment to notice.

    Args:
        config: From `server_config`.
        lifecycle: Is told when it drains, and tells what is still being served.
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to serve; see `uvicorn.Server`. From then on SIGUSR1 has the state logged."""
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                set_options(listener)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._log_state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles SIGTERM and SIGINT. uvicorn's own would raise the signal again when all is done."""
        self._lifecycle.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for the running answers, and ends them in time; see `uvicorn.Server`."""
        log.info("draining", requests=self._lifecycle.requests, at_most_seconds=self._drain_seconds)
        await self._until_idle(self._drain_seconds)
        self._lifecycle.end()
        self._end_answers()
        await self._until_idle(_LAST_WORDS_SECONDS)
        await super().shutdown(sockets)

    async def _until_idle(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._lifecycle.requests and not self.force_exit and loop.time() < end:  # noqa: ASYNC110 - a signal wakes nothing
            await asyncio.sleep(_POLL_SECONDS)

    def _log_state(self) -> None:
        log.info(
            "state",
            tasks=len(asyncio.all_tasks()),
            connections=len(self.server_state.connections),
            requests=self._lifecycle.requests,
            draining=self._lifecycle.draining,
        )


def server_config(app: FastAPI, settings: GatewaySettings) -> uvicorn.Config:
    """Returns how uvicorn is to serve the application."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=GatewayProtocol.with_timeouts(Timeouts(settings.header_timeout_seconds, settings.body_timeout_seconds)),
        ws="none",
        interface="asgi3",
        # The application logs each request itself, at its end.
        access_log=False,
        log_config=None,
        log_level=settings.log_level,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )

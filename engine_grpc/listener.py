"""Where the engine listens, with another gRPC server where one broke.

In grpcio 1.85 a call whose path is not UTF-8 ends the server that gets it, for good and for everybody: it decodes the
path where nothing catches what that raises. Its port is free again at once, and the calls that run there go on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.25
"""Between two looks whether the server is whole: it tells of its end only when its last call has ended."""
_AGAIN_SECONDS = 0.1
_LAST_CALLS_SECONDS = 600
"""More than an answer takes. Whose call is still there then takes nothing of it, or watches our health: it is cut."""


def by_name(server: grpc.aio.Server) -> grpc.aio.Server:
    """Has a server find its handlers by the name of the method that is called, and no other way; returns it.

    Generated code has it wait for a call of each method, too. A server that breaks frees the memory which those calls
    were to be written to, and has zeros written there a moment later, over whatever is there then: the process ends by
    SIGSEGV, or goes on with it.
    """
    server.add_registered_method_handlers = lambda *_: None  # type: ignore[method-assign]  # no option does it
    return server


class Listener:
    """Listens on one address until it is stopped.

    Args:
        make: Makes a server that serves all there is to serve.
        host: Where to listen.
        port: 0 takes a free one.
        credentials: Makes those of one server, for TLS; None listens without.
    """

    def __init__(
        self,
        make: Callable[[], grpc.aio.Server],
        host: str,
        port: int,
        credentials: Callable[[], grpc.ServerCredentials] | None,
    ) -> None:
        self._make = make
        self._host = f"[{host}]" if ":" in host else host
        self._credentials = credentials
        self._broken: dict[grpc.aio.Server, asyncio.Task[None]] = {}
        """What ends each of them: calls may run there, and gRPC does not let go of a server before it has ended."""
        self.port = port

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: The address cannot be listened on.
        """
        self._server = await self._started()
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self, grace: float) -> None:
        """Takes no new calls, and cancels those that still run after so many seconds."""
        self._keeping.cancel()
        await asyncio.gather(*(server.stop(grace) for server in (self._server, *self._broken)))

    async def _started(self) -> grpc.aio.Server:
        server = self._make()
        self.port = self._bound(server, f"{self._host}:{self.port}")
        await server.start()
        return server

    def _bound(self, server: grpc.aio.Server, address: str) -> int:
        try:
            if self._credentials:
                return server.add_secure_port(address, self._credentials())
            return server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(
                f"cannot listen on {address}: ENGINE_HOST is not of this machine, or the port is taken"
            ) from None

    async def _keep(self) -> None:
        while True:
            try:
                await self._server.wait_for_termination(_LOOK_SECONDS)
            except Exception:  # what broke it, whatever that is: no call is taken here any more
                log.exception("gRPC's server broke, another takes its place")
                await self._replace()

    async def _replace(self) -> None:
        self._broken[self._server] = asyncio.create_task(self._end(self._server))
        while True:
            try:
                self._server = await self._started()
            except OSError as error:  # not free yet
                log.warning("cannot listen again yet", why=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return

    async def _end(self, broken: grpc.aio.Server) -> None:
        """Lets the calls of a broken server end, and gives it up."""
        await broken.stop(_LAST_CALLS_SECONDS)
        del self._broken[broken]

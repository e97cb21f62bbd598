"""How uvicorn serves the application: tuned to streams that are cut at once when the process is to end."""

import logging
import socket

import uvicorn

from local_model.server import ReadText, create_app


def build_server(read_text: ReadText, tokens_per_second: float) -> uvicorn.Server:
    """Returns the server, to be run on a listening socket; for the arguments see `create_app`."""
    config = uvicorn.Config(
        create_app(read_text, tokens_per_second),
        http="h11",
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        # Longer than clients keep an idle connection, so that it is never closed just as they use it again.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=0,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cuts what is still being streamed, as was asked for, and does not call it an error."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)

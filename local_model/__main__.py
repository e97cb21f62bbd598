"""Starts the local model: loads it, listens, prints the base URL on stdout, and serves until it is stopped.

Whoever starts it reads that one line. With `--exit-with-parent` it ends when its standard input is closed,
which the system does even for a parent that was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

    from uvicorn import Server


def main() -> int:
    """Runs the server; returns the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if arguments.exit_with_parent:
        threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="local_model: %(levelname)s: %(message)s")
    try:
        server = _server(arguments.tokens_per_second)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"local_model needs {error.name}: pip install 'studyai-chat[local]'\n")
        return 2
    with _listening(arguments.host, arguments.port) as listener:
        sys.stdout.write(f"{_base_url(listener)}\n")
        sys.stdout.flush()
        server.run(sockets=[listener])
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_model", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--tokens-per-second", type=_pace, default=30.0, help="0 for no pacing (default: 30)")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


def _pace(text: str) -> float:
    pace = float(text)
    if not 0 <= pace < math.inf:
        raise argparse.ArgumentTypeError("a number from 0 on is needed")
    return pace


def _server(tokens_per_second: float) -> Server:
    """Loads the model.

    Raises:
        ModuleNotFoundError: if the `local` extra is not installed.
    """
    # A missing package shall be told, and a signal meanwhile shall end the process in peace.
    from local_model.ocr import TextReader  # noqa: PLC0415 - may be missing, and takes a moment
    from local_model.serving import build_server  # noqa: PLC0415 - may be missing, and takes a moment

    return build_server(TextReader().read, tokens_per_second)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        sys.exit(f"local_model cannot listen on {host} port {port}: {error.strerror}")


def _base_url(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Ends the process in peace, also while the model is being loaded.

    While uvicorn serves it handles these signals itself; it raises them again once it has stopped.
    """
    raise SystemExit(0)


def _stop_at_end_of_stdin() -> None:
    # Not sys.stdin: its lock, held here, would be missed when the interpreter ends.
    with contextlib.suppress(OSError):  # a descriptor that is not even open is an end too
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

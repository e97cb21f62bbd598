"""Runs the whole service on this machine, an engine and a gateway, until Ctrl-C: what `make run` calls.

Both are the processes that run in production, with the settings of the environment and `.env`. Where no model is
configured, the embedded local one answers, and this says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from dotenv import dotenv_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_READY_SECONDS = 90
_POLL_SECONDS = 0.2
_GREETING = """
StudyAI is ready on {url}

  Ask about a page:   curl -N {url}/api/ai/chat-image-stream -H 'Content-Type: application/json' -d @examples/ask.json
  All in one reply:   curl {url}/api/ai/chat-image -H 'Content-Type: application/json' -d @examples/ask.json
  The API's pages:    {url}/docs

Ctrl-C ends everything.
"""


def main() -> int:
    """Runs the service; returns the exit status: 0 after Ctrl-C or SIGTERM, 1 where a process failed."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    environment = service_environment(os.environ, dotenv_values(".env"))
    processes = [_start(module, environment) for module in ("engine_grpc", "sse_gateway")]
    try:
        url = f"http://localhost:{environment['PORT']}"
        if _wait_until_ready(url, processes, stop):
            print(_GREETING.format(url=url), flush=True)
        while not stop.wait(_POLL_SECONDS):
            if any(process.poll() is not None for process in processes):
                print("A process ended; its last words are above.", file=sys.stderr)
                return 1
        return 0
    finally:
        _end(reversed(processes))


def service_environment(environ: Mapping[str, str], dotenv: Mapping[str, str | None]) -> dict[str, str]:
    """Returns the processes' environment: the settings as they are, and what a first run needs beside them."""
    known = {**dotenv, **environ}
    added = {"PORT": known.get("PORT") or "3000", "DRAIN_SECONDS": known.get("DRAIN_SECONDS") or "2"}
    if not any(known.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LOCAL_MODEL")):
        print("No OPENAI_API_KEY found: the embedded local model answers. It reads pages, but it is no tutor.")
        added["LOCAL_MODEL"] = "true"
    if not known.get("AI_ENGINE_URL"):
        added["AI_ENGINE_URL"] = f"http://localhost:{known.get('ENGINE_PORT') or '5001'}"
    return {**environ, **added}


def _start(module: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C comes here alone, and the processes are ended in order.
    return subprocess.Popen([sys.executable, "-m", module], env=environment, start_new_session=True)  # noqa: S603


def _wait_until_ready(url: str, processes: list[subprocess.Popen[bytes]], stop: threading.Event) -> bool:
    for _ in range(int(_READY_SECONDS / _POLL_SECONDS)):
        if stop.wait(_POLL_SECONDS) or any(process.poll() is not None for process in processes):
            return False
        if _is_ready(url):
            return True
    print(f"Not ready after {_READY_SECONDS} s; what it waits for: {url}/readyz", file=sys.stderr)
    return False


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ends each in turn, the gateway before the engine that it needs."""
    for process in processes:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())

"""Run as a process: logs what a hostile caller, a careless library and a fault could make a service log.

The arguments are the service's package and the log's format.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
import warnings
from typing import Any

import structlog

CANARY = "canary-7f3a"
TEXTS = [
    "\n",
    "\r\n{}\r\n",
    "\x1b[2J\x1b[31m",
    "\u2028\u2029\x85",
    "\x00\x07\x08\x7f\x9b",
    "\u202e\u2066\u200b",
    "\ud800",
    '"}\n{"event":"forged"}',
    "x" * 100_000,
]
ours, theirs = structlog.get_logger("ours"), logging.getLogger("a.librarys")


class Untold:
    """Something that nobody thought of."""

    def __repr__(self) -> str:
        return CANARY


def fail() -> None:
    raise ValueError(f"{CANARY}\n{CANARY}")


def texts() -> None:
    for text in TEXTS:
        ours.info(text, value=text, **{f"key {text}": [text, {text: text}]})
        theirs.warning("%s", text)


def values() -> None:
    looped: list[Any] = []
    looped.append(looped)
    for value in (Untold(), looped, float("nan"), b"\xff", {1: Untold()}, {(1,): 2}, 10**5000, ValueError(CANARY)):
        ours.info("a value", value=value)
    theirs.warning(Untold.__doc__, stack_info=True)


def failures() -> None:
    try:
        fail()
    except ValueError as error:
        ours.exception("ours")
        theirs.exception("theirs\n")
        theirs.error("as text\n%s", "".join(__import__("traceback").format_exception(error)))
    theirs.error("%d", CANARY)


async def tasks() -> None:
    """A failed task that nobody looks at, which asyncio tells of when it is collected."""
    task = asyncio.ensure_future(asyncio.to_thread(fail))
    await asyncio.wait({task})


def hooks() -> None:
    class Collected:
        def __del__(self) -> None:
            fail()

    Collected()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    warnings.warn(CANARY, stacklevel=1)


def main() -> None:
    """Logs all of it, and ends with an exception that nobody catches."""
    package, log_format = sys.argv[1:]
    importlib.import_module(f"{package}.log").configure_logging("debug", log_format)
    warnings.simplefilter("always")
    with structlog.contextvars.bound_contextvars(request_id="req-\n\x1b[1m"):
        texts()
        values()
        failures()
        asyncio.run(tasks())
        hooks()
        ours.info("the last of them")
    fail()


if __name__ == "__main__":
    main()

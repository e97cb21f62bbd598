"""Logging: one JSON line per record, or one readable line on a terminal; the libraries' records go the same way.

What a student wrote never gets here by design: exceptions are logged as their type and the places they passed
through, never as their text, which may quote whatever it failed on.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "json", "console"]

_QUIET = ("asyncio", "grpc")
"""Libraries whose debug records could quote requests."""


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Sends every record of this process to standard error. `auto` is `console` on a terminal, else `json`."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _places_only,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared, console))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(shared: list[Processor], console: bool) -> logging.Formatter:
    renderer: Processor = structlog.processors.JSONRenderer()
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[_one_line, structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _one_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Keeps a library's message with line breaks in it to one line on a terminal, too."""
    event["event"] = "\\n".join(str(event["event"]).strip().splitlines())
    return event


def _places_only(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replaces a traceback, whose last line is the exception's text, by the exception's type and its places."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__qualname__
        event["places"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event

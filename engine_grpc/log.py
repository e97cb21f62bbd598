"""Logging: one JSON line per record, or readable lines on a terminal; the libraries' records go the same way.

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
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

LogFormat = Literal["auto", "json", "console"]

_QUIET = ("openai", "httpx2", "httpcore2", "aiohttp", "asyncio", "grpc")
"""Libraries whose debug records could quote requests."""


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Sends every record of this process to standard error. `auto` is `console` on a terminal, else `json`."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _places_only],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(console)],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_unexpected(log: FilteringBoundLogger, error: BaseException) -> None:
    """Logs an exception that nobody expected: its type and where it came from, without its text."""
    log.error("unexpected exception", error=type(error).__qualname__, places=_places(error))


def _renderer(console: bool) -> Processor:
    if console:
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer()


def _places_only(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replaces a library's traceback, whose last line is the exception's text, by its places."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = type(error).__qualname__
        event["places"] = _places(error)
    return event


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]

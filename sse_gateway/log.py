"""Logging: one JSON line per record, or one readable line on a terminal; the libraries' records go the same way.

What a student wrote never gets here by design: exceptions and warnings are logged as their type and the places they
passed through, never as their text, which may quote whatever it failed on. What does get here cannot break out of its
line: control characters are escaped, and a record that cannot be written is told of in fixed words.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "json", "console"]

_QUIET = ("asyncio", "grpc")
"""Libraries whose debug records could quote requests."""
_TRACEBACK = "Traceback (most recent call last)"
_PLACE = re.compile(r'^ *File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_MAX_PLACES = 30
_QUOTE = re.compile(r"""\s*(\bb)?["']""")

log = structlog.get_logger(__name__)


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Sends every record of this process to standard error. `auto` is `console` on a terminal, else `json`.

    What Python would print there by itself, of warnings and of exceptions that nobody caught, becomes a record too.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _places_only,
    ]
    rendering = [_message_only, *_renderers(console)]
    stream = sys.stderr
    structlog.configure(
        # Not through logging, as the libraries' are: that costs ten times as much, of which a request pays thrice.
        processors=[_Guarded([*shared, *rendering])],
        logger_factory=lambda name: _Lines(name, stream),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    _take_over()


class _Guarded:
    """Processors in a row. What they cannot make a line of is told of in fixed words: to log is never to fail."""

    def __init__(self, processors: list[Processor]) -> None:
        self._processors = processors

    def __call__(self, logger: _Lines, method: str, event: EventDict) -> str:
        line: Any = event
        try:
            for processor in self._processors:
                line = processor(logger, method, line)
        except Exception:  # noqa: BLE001 - to log is never to fail, and its text may quote the record
            return _not_logged(logger.name)
        return str(line)


class _Lines:
    """Where structlog's loggers write; one for each name."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def write(self, line: str) -> None:
        """Writes a line, at once and in one piece."""
        with suppress(OSError, ValueError):  # nobody reads any more
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Tells of a record that cannot be written. Python's own way is a traceback that quotes the record."""
        with suppress(OSError, ValueError):  # nobody reads any more
            self.stream.write(_not_logged(f"{record.pathname}:{record.lineno}") + self.terminator)


def _not_logged(place: str) -> str:
    return json.dumps({"event": "a record could not be logged", "level": "error", "place": place})


def _renderers(console: bool) -> list[Processor]:
    if console:
        return [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [structlog.processors.JSONRenderer(serializer=_as_json)]


def _as_json(value: Any, **_: Any) -> str:
    """Returns strict JSON in ASCII; of what is none, its type is told."""
    try:
        return _strict.encode(value)
    except (TypeError, ValueError, RecursionError):
        members = value.items() if isinstance(value, dict) else ()
        plain = {str(key): member if isinstance(member, str | bool) else _type_name(member) for key, member in members}
        return json.dumps(plain or _type_name(value))


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"


_strict = json.JSONEncoder(default=_type_name, allow_nan=False)


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escapes what a terminal would obey, or show as another line."""
    return {
        _escaped(str(key)): _escaped(value if isinstance(value, str) else _as_json(value))
        for key, value in event.items()
    }


def _escaped(text: str) -> str:
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def _message_only(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Cuts out of a library's message what may quote.

    That is a traceback as text, asyncio's `repr` of a failed task, and gRPC's of metadata that it refuses, as a token.
    """
    text = str(event["event"])
    if _TRACEBACK in text:
        event.setdefault(
            "places", [f"{file}:{line} {name}" for file, line, name in _PLACE.findall(text)][-_MAX_PLACES:]
        )
        text = text.partition(_TRACEBACK)[0] or "unexpected exception"
    if event.get("logger") == "asyncio":
        text = text.partition("\n")[0]
    if str(event.get("logger")).startswith("grpc"):
        text = _QUOTE.split(text, maxsplit=1)[0] or "unexpected exception"
    event["event"] = text.strip()
    return event


def _places_only(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replaces a traceback, whose last line is the exception's text, by the exception's type and its places."""
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event.update(_error_fields(error))
    return event


def _error_fields(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__, limit=-_MAX_PLACES)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__qualname__, "places": places}


def _take_over() -> None:
    """Replaces what writes to standard error by itself, but nobody else's hooks."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda _kind, error, _traceback: _log_uncaught(error)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = lambda raised: _log_uncaught(raised.exc_value)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda raised: _log_uncaught(raised.exc_value)
    warnings.showwarning = _log_warning


def _log_uncaught(error: BaseException | None) -> None:
    log.error("uncaught exception", exc_info=error)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    log.warning("a warning", error=category.__qualname__, places=[f"{filename}:{lineno}"])

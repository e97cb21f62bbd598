"""Python imports this at start where its folder is on the path: the services then break where a text tells them to.

`break:place` in a question or in the model's text breaks that place, with an exception that nobody expects and whose
own text must reach nobody. Everything else works as always, so one process serves every case.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-of-an-exception"


def _break(owner: Any, name: str, place: str, text_of: Callable[..., str]) -> None:
    """Makes a function fail where the text in its arguments names the place."""
    working = getattr(owner, name)

    @functools.wraps(working)
    def breaking(*args: Any, **kwargs: Any) -> Any:
        if f"break:{place}" in text_of(*args):
            raise RuntimeError(CANARY)
        return working(*args, **kwargs)

    setattr(owner, name, breaking)


def _break_engine() -> None:
    from engine_grpc import answers, openai_wire, prompt  # noqa: PLC0415 - only where there is an engine to break

    _break(prompt, "compose", "asking", lambda question, *_: str(question.prompt))
    _break(openai_wire.TextJoiner, "add", "reading", lambda _, text: str(text))
    _break(answers.Answer, "append", "appending", lambda _, text: str(text))
    _break(answers.Answer, "end", "ending", _text_when_finished)
    _break(answers.Piece, "__init__", "sending", lambda _self, _sequence, text: str(text))


def _text_when_finished(answer: Any, ending: Any) -> str:
    return "" if isinstance(ending, Exception) else str(answer.text)


def _break_gateway() -> None:
    from sse_gateway import events  # noqa: PLC0415 - only where there is a gateway to break

    _break(events, "_start_event", "starting", lambda started: str(started.session_id))
    _break(events.AnswerEvents, "fold", "folding", lambda _, message: str(message.text_delta.text))
    _break(events.AnswerEvents, "_content_frame", "writing", lambda self: self._content.decode())
    _break(events.AnswerEvents, "_end_frame", "closing", lambda self, *_: self._content.decode())
    _break(events, "answer_reply", "replying", lambda answer: str(answer.text))


sys.path.insert(0, str(Path.cwd()))  # as `python -m` does later: it is this checkout's service that is to break
if "engine_grpc" in sys.orig_argv:
    _break_engine()
if "sse_gateway" in sys.orig_argv:
    _break_gateway()

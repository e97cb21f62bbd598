"""Reads an answer aloud: from the client's events to the output, and from every way it can end to an exit status."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from studyai_client.cli import INTERRUPTED
from studyai_client.cli.pictures import ROOM_OVER_GRPC, ROOM_OVER_HTTP, fitted
from studyai_client.errors import StudyAIError
from studyai_client.events import Delta, Finished, Started
from studyai_client.options import Backoff
from studyai_client.settings import AskOptions

if TYPE_CHECKING:
    from studyai_client.cli.connection import Connection
    from studyai_client.cli.output import Output
    from studyai_client.client import AnswerStream, StudyAI
    from studyai_client.question import Picture

Work = Callable[[], int]
"""What a command does; returns its exit status."""

FAILED = 1
_AT_ONCE = Backoff(attempts=0)
_STOP_SECONDS = 3.0
"""As long as who pressed Ctrl-C may be made to wait."""
_PIPE_CLOSED = 141
"""128 + SIGPIPE: what a program gets that knows nothing of it."""


def guarded(work: Work) -> int:
    """Returns a command's exit status; ends quietly where nobody reads its output any more."""
    status = 0
    try:
        status = work()
        sys.stdout.flush()
    except OSError as error:
        # Else the interpreter fails once more, aloud, when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return status or _PIPE_CLOSED
        raise
    return status


def ask(
    connection: Connection,
    output: Output,
    picture: Picture | None,
    prompt: str,
    options: AskOptions,
    *,
    streaming: bool,
) -> int:
    """Asks, and shows the answer. Whoever leaves early stops it: nobody else waits for it."""
    # Read once, and named: Ctrl-C may have to ask the same again to find out what it stops.
    room = ROOM_OVER_GRPC if connection.address.grpc_target else ROOM_OVER_HTTP
    image, named = fitted(picture, room, output.note), AskOptions(**options, key=str(uuid.uuid4()))
    if not streaming and not named["session_id"]:
        # The service names one in its streams alone, and this answer is to be asked on about, too.
        named["session_id"] = uuid.uuid4().hex
    with output, connection.client(output.retrying) as studyai, studyai.ask(image or None, prompt, **named) as answer:
        show = partial(_read, output, answer) if streaming else partial(_tell, output, studyai, image, prompt, named)
        try:
            return _shown(output, show)
        except KeyboardInterrupt:
            answer_id = answer.answer_id or _joined(connection, image, prompt, named)
            begun = bool(answer.text) or not streaming
            output.interrupted(answer_id, stopped=_stop(connection, answer, answer_id), begun=begun)
            return INTERRUPTED
        except OSError:  # the output takes no more
            _stop(connection, answer, answer.answer_id)
            raise


def resume(connection: Connection, output: Output, answer_id: str, timeout: float) -> int:
    """Shows an answer that was begun before. It may be somebody else's: whoever leaves does not stop it."""
    with (
        output,
        connection.client(output.retrying) as studyai,
        studyai.resume(answer_id, timeout=timeout) as answer,
    ):
        try:
            return _shown(output, lambda: _read(output, answer))
        except KeyboardInterrupt:
            output.interrupted(answer_id, stopped=False)
            return INTERRUPTED


def stop(connection: Connection, output: Output, answer_id: str) -> int:
    """Stops an answer."""
    with connection.client() as studyai:
        studyai.stop(answer_id)
    output.note("Stopped.")
    return 0


def _shown(output: Output, show: Callable[[], None]) -> int:
    try:
        show()
    except StudyAIError as error:
        output.failed(error)
        return FAILED
    except KeyboardInterrupt:
        # In `… | tee notes` Ctrl-C has ended tee, too.
        with suppress(BrokenPipeError):
            output.pause()
        raise
    return 0


def _read(output: Output, answer: AnswerStream) -> None:
    for event in answer:
        match event:
            case Started():
                output.started(event)
            case Delta():
                output.delta(event)
            case Finished():
                output.finished(event)


def _tell(output: Output, studyai: StudyAI, image: bytes, prompt: str, options: AskOptions) -> None:
    """Shows an answer that comes as a whole."""
    answer = studyai.complete(image or None, prompt, **options)
    output.started(
        Started(
            answer_id=answer.answer_id,
            model=answer.model,
            session_id=answer.session_id,
            started_at=answer.started_at,
        )
    )
    if answer.text:
        output.delta(Delta(text=answer.text))
    output.finished(
        Finished(text=answer.text, finish_reason=answer.finish_reason, usage=answer.usage, elapsed=answer.elapsed)
    )


def _joined(connection: Connection, image: bytes, prompt: str, options: AskOptions) -> str | None:
    """Returns which answer a question has got that was sent before: it is found by its key."""
    options["timeout"] = _STOP_SECONDS
    with (
        suppress(StudyAIError, KeyboardInterrupt),
        connection.client(backoff=_AT_ONCE) as studyai,
        studyai.ask(image or None, prompt, **options) as answer,
    ):
        next(answer, None)
        return answer.answer_id
    return None


def _stop(connection: Connection, answer: AnswerStream, answer_id: str | None) -> bool:
    """Tells whether an answer could be stopped. One that cannot be reached ends by itself: nobody waits for that."""
    with suppress(StudyAIError, KeyboardInterrupt):
        answer.close()
        if answer_id:
            with connection.client(backoff=_AT_ONCE) as studyai:
                studyai.stop(answer_id)
            return True
    return False

"""Reads an answer aloud: from the client's events to the output, and from every way it can end to an exit status."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from studyai_client.errors import StudyAIError
from studyai_client.events import Delta, Finished, Started
from studyai_client.question import load_picture
from studyai_client.settings import AskOptions

if TYPE_CHECKING:
    from studyai_client.cli.connection import Connection
    from studyai_client.cli.output import Output
    from studyai_client.client import AnswerStream, StudyAI
    from studyai_client.question import Picture

Work = Callable[[], int]
"""What a command does; returns its exit status."""

FAILED = 1
INTERRUPTED = 130
"""128 + SIGINT."""
_PIPE_CLOSED = 141
"""128 + SIGPIPE: what a program gets that knows nothing of it."""


def guarded(work: Work) -> int:
    """Returns a command's exit status; ends quietly where nobody reads its output any more."""
    try:
        status = work()
        sys.stdout.flush()
    except BrokenPipeError:
        # Else the interpreter fails once more, aloud, when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
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
    image, named = load_picture(picture), AskOptions(**options, key=str(uuid.uuid4()))
    with output, connection.client(output.retrying) as studyai, studyai.ask(image or None, prompt, **named) as answer:
        show = partial(_read, output, answer) if streaming else partial(_tell, output, studyai, image, prompt, named)
        try:
            return _shown(output, show)
        except KeyboardInterrupt:
            _stop(studyai, answer)
            output.interrupted(answer.answer_id, stopped=True)
            return INTERRUPTED
        except BrokenPipeError:
            _stop(studyai, answer)
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


def _stop(studyai: StudyAI, answer: AnswerStream) -> None:
    """Stops an answer. One that cannot be reached ends by itself; a second Ctrl-C does not wait for that."""
    with suppress(StudyAIError, KeyboardInterrupt):
        if answer.answer_id is None:
            next(answer, None)  # joins the answer by its key, and so learns which it is
        answer.close()
        if answer.answer_id:
            studyai.stop(answer.answer_id)

"""The product's rules: check a question, start its answer, and let the model write it within its deadlines.

The writer is the only one that ends an answer, and it does so in every case: finished, failed, too late, cancelled.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from engine_grpc import image, prompt, usage
from engine_grpc.answers import Answer, Finished, Started
from engine_grpc.errors import EngineError, Reason
from engine_grpc.log import log_unexpected
from engine_grpc.model import Done, FinishReason

if TYPE_CHECKING:
    from engine_grpc.answers import Answers
    from engine_grpc.model import ChatModel, Prompt
    from engine_grpc.question import Question

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long the model may take, in seconds."""

    first_token: float
    """From asking to the first text, retries included."""
    stall: float
    """From one text to the next."""
    answer: float
    """From asking to the end."""


class Tutor:
    """Answers questions by asking a model."""

    def __init__(self, model: ChatModel, answers: Answers, deadlines: Deadlines) -> None:
        self._model = model
        self._answers = answers
        self._deadlines = deadlines

    def ask(self, question: Question) -> Answer:
        """Starts the answer to a question.

        Raises:
            EngineError: IMAGE_UNREADABLE or OVERLOADED.
        """
        asked = prompt.compose(question, _inspected(question.image))
        started = Started(question.session_id or secrets.token_hex(16), self._model.name)
        return self._answers.start(started, lambda answer: self._write(answer, asked))

    async def _write(self, answer: Answer, asked: Prompt) -> None:
        """Lets the model write the answer, and ends it whatever happens; cancelled, there is nobody to end it for."""
        try:
            await self._read_model(answer, asked)
        except EngineError as error:
            answer.end(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the readers must be told
            log_unexpected(log, error)
            answer.end(EngineError(Reason.INTERNAL))
        finally:
            _log_end(answer)

    async def _read_model(self, answer: Answer, asked: Prompt) -> None:
        """Appends the model's text to the answer until it is done."""
        loop = asyncio.get_running_loop()
        last = loop.time() + self._deadlines.answer
        try:
            async with (
                asyncio.timeout_at(min(last, loop.time() + self._deadlines.first_token)) as deadline,
                aclosing(self._model.stream(asked)) as events,
            ):
                async for event in events:
                    if isinstance(event, Done):
                        tokens = event.usage or usage.estimate(asked, answer.text)
                        answer.end(Finished(event.finish_reason, tokens, answer.elapsed))
                    else:
                        answer.append(event.text)
                    deadline.reschedule(min(last, loop.time() + self._deadlines.stall))
        except TimeoutError:
            late = loop.time() >= last
            raise EngineError(Reason.DEADLINE_EXCEEDED if late else Reason.UPSTREAM_TIMEOUT) from None


def _inspected(data: bytes) -> image.Picture:
    try:
        return image.inspect(data)
    except image.ImageError as error:
        raise EngineError(Reason.IMAGE_UNREADABLE, str(error), field="question.image") from None


def _log_end(answer: Answer) -> None:
    log.info(
        "answer ended",
        answer_id=answer.started.answer_id,
        outcome=_outcome(answer.ending),
        deltas=len(answer.deltas),
        elapsed_ms=round(answer.elapsed * 1000),
        **_figures(answer.ending),
    )


def _outcome(ending: Finished | EngineError | None) -> str:
    """One word for how an answer ended; without an ending, its last reader left."""
    if ending is None:
        return "client_gone"
    if isinstance(ending, Finished):
        return "completed" if ending.finish_reason is FinishReason.STOP else ending.finish_reason.value
    named = {
        Reason.DEADLINE_EXCEEDED: "deadline",
        Reason.DRAINING: "drained",
        Reason.INTERNAL: "internal_error",
    }
    return named.get(ending.reason, "upstream_error")


def _figures(ending: Finished | EngineError | None) -> dict[str, object]:
    if isinstance(ending, Finished):
        return {"total_tokens": ending.usage.total_tokens, "estimated": ending.usage.estimated}
    return {"code": str(ending.reason)} if ending else {}

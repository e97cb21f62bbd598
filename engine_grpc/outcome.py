"""How an answer ended, in one word and one log line: an answer has exactly one of each.

With LOG_PROMPTS=true a second line has the words themselves.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog

from engine_grpc import metrics
from engine_grpc.answers import Finished
from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import FinishReason

if TYPE_CHECKING:
    from engine_grpc.answers import Answer, Ending

log = structlog.get_logger(__name__)
_words = structlog.wrap_logger(
    None,
    wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    logger_factory_args=(f"{__name__}.words",),
)
"""Logs at any LOG_LEVEL: who sets LOG_PROMPTS=true wants the words."""

_OF_ERRORS = {
    Reason.DEADLINE_EXCEEDED: "deadline",
    Reason.DRAINING: "drained",
    # Not the upstream's fault.
    Reason.INTERNAL: "internal_error",
}


def _expect() -> None:
    """Begins the series of every end at 0: `rate()` does not see the first count of one that begins at 1."""
    for word in (
        "completed",
        "client_gone",
        *(reason.value for reason in FinishReason if reason is not FinishReason.STOP),
    ):
        metrics.ENDED.labels(word, "")
    for reason in (*_OF_ERRORS, *(reason for reason in Reason if reason.startswith("UPSTREAM_"))):
        metrics.ENDED.labels(_OF_ERRORS.get(reason, "upstream_error"), str(reason))
    metrics.ENDED.labels("engine_lost", str(Reason.ENGINE_UNAVAILABLE))


_expect()


def log_end(answer: Answer, *, words: bool) -> None:
    """Logs and counts the end of an answer. Only the engine that wrote it does.

    Args:
        answer: Nobody writes it any more.
        words: Whether what was asked and answered is logged, too.
    """
    _count(answer)
    log.info(
        "answer ended",
        answer_id=answer.started.answer_id,
        outcome=outcome(answer.ending),
        deltas=len(answer.deltas),
        elapsed_ms=round(answer.elapsed * 1000),
        **_figures(answer.ending),
    )
    if words:
        said = {"prompt": answer.started.question, "answer": answer.text}
        _words.info("answer words", answer_id=answer.started.answer_id, **said)


def _count(answer: Answer) -> None:
    ending = answer.ending
    metrics.ENDED.labels(outcome(ending), str(ending.reason) if isinstance(ending, EngineError) else "").inc()
    metrics.DURATION.observe(answer.elapsed)
    metrics.READERS.observe(answer.most_readers)
    if isinstance(ending, Finished):
        metrics.TOKENS.labels("prompt").inc(ending.usage.prompt_tokens)
        metrics.TOKENS.labels("completion").inc(ending.usage.completion_tokens)


def log_lost(answer_id: str) -> None:
    """Logs the end of an answer whose engine is gone: the first engine that notices does."""
    metrics.ENDED.labels("engine_lost", str(Reason.ENGINE_UNAVAILABLE)).inc()
    log.warning("answer ended", answer_id=answer_id, outcome="engine_lost", code=str(Reason.ENGINE_UNAVAILABLE))


def outcome(ending: Ending | None) -> str:
    """One word for how an answer ended; without an ending, its last reader left."""
    if ending is None:
        return "client_gone"
    if isinstance(ending, Finished):
        return "completed" if ending.finish_reason is FinishReason.STOP else ending.finish_reason.value
    return _OF_ERRORS.get(ending.reason, "upstream_error")


def _figures(ending: Ending | None) -> dict[str, object]:
    if isinstance(ending, Finished):
        return {"total_tokens": ending.usage.total_tokens, "estimated": ending.usage.estimated}
    return {"code": str(ending.reason)} if isinstance(ending, EngineError) else {}

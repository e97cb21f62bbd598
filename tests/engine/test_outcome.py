"""How answers end, in the one word that the log has for each."""

from __future__ import annotations

import pytest

from engine_grpc.answers import Finished
from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import FinishReason, Usage
from engine_grpc.outcome import outcome

WORDS = {
    *("completed", "length", "content_filter", "stopped", "client_gone"),
    *("deadline", "upstream_error", "drained", "internal_error"),
}


def finished(reason: FinishReason) -> Finished:
    return Finished(reason, Usage(1, 1, 2), 0.1)


@pytest.mark.parametrize(
    ("ending", "word"),
    [
        (None, "client_gone"),
        (finished(FinishReason.STOP), "completed"),
        (finished(FinishReason.LENGTH), "length"),
        (finished(FinishReason.CONTENT_FILTER), "content_filter"),
        (finished(FinishReason.STOPPED), "stopped"),
        (EngineError(Reason.DEADLINE_EXCEEDED), "deadline"),
        (EngineError(Reason.UPSTREAM_TIMEOUT), "upstream_error"),
        (EngineError(Reason.DRAINING), "drained"),
        (EngineError(Reason.INTERNAL), "internal_error"),
    ],
)
def test_every_ending_has_its_word(ending: Finished | EngineError | None, word: str) -> None:
    assert outcome(ending) == word


@pytest.mark.parametrize("reason", Reason)
def test_no_error_has_a_word_of_its_own(reason: Reason) -> None:
    assert outcome(EngineError(reason)) in WORDS

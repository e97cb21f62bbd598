"""What an answer consists of: the same frozen events whichever way it comes, and the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime, timedelta

FinishReason = Literal["stop", "length", "content_filter", "stopped"]
"""`stop`: the natural end; `length`: cut at the token limit; `content_filter`: cut by the model's provider;
`stopped`: somebody stopped it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the model's provider counts them."""

    prompt_tokens: int
    """Of everything sent to the model, the picture included."""
    completion_tokens: int
    """Of what the model wrote, hidden reasoning included."""
    total_tokens: int
    """The sum of both."""
    estimated: bool = False
    """Whether the provider reported none, so that the counts are an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first event: the question is accepted.

    It comes once more where the service has lost the answer and another one begins: what came before is no part of it.
    """

    answer_id: str
    """Names this answer, for `resume` and `stop`."""
    model: str
    """The model that answers."""
    session_id: str | None
    """The chat that the question belongs to: the caller's, or a new one. None where the answer came by the HTTP
    fallback and the caller named none: that reply does not tell."""
    started_at: datetime | None
    """When the question was accepted (UTC). None with the fallback over HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """More text: append it to what came before."""

    text: str
    """Never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last event, once: the answer is whole."""

    text: str
    """All of it: the deltas, joined."""
    finish_reason: FinishReason
    usage: Usage
    elapsed: timedelta
    """From accepting the question to the end of the answer, as the service measured it."""


Event = Started | Delta | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, as `complete` returns it. The fields are those of `Started` and `Finished`."""

    answer_id: str
    model: str
    session_id: str | None
    started_at: datetime | None
    text: str
    finish_reason: FinishReason
    usage: Usage
    elapsed: timedelta

"""The port to whatever writes answers: what is asked, what comes back, and nothing of how.

An adapter (`openai_model`) turns one provider's wire into these plain events; everything else of the engine knows
only them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine_grpc.image import Picture
    from engine_grpc.sessions import Turn


class FinishReason(Enum):
    """Why the model stopped writing; values are the contract's names."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked."""

    system: str
    """Our instructions; nothing in them comes from the student."""
    turns: tuple[Turn, ...]
    """The chat so far, oldest first."""
    texts: tuple[str, ...]
    """The student's words, as data."""
    picture: Picture
    student_id: str
    """Who asks; an adapter must never pass it on in clear."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A model has begun to answer; the first event."""

    model: str
    """Which one, as its provider spells it."""


@dataclass(frozen=True, slots=True)
class Delta:
    """More text. Never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The model has ended its answer; the last event."""

    finish_reason: FinishReason
    usage: Usage | None
    """None when the provider reported none."""


ModelEvent = Begun | Delta | Done


class ChatModel(Protocol):
    """Writes answers."""

    name: str
    """The model's name, as its provider spells it."""
    settled: bool
    """Whether no other model may answer in its place."""

    def stream(self, prompt: Prompt, within: float) -> AsyncGenerator[ModelEvent, None]:
        """Yields one `Begun`, any number of `Delta` and then one `Done`.

        Closing the generator closes the connection to the provider. The prompt is let go of at `Begun`.

        Args:
            prompt: What to ask.
            within: Seconds until the first text must be there. The adapter keeps this deadline, since it has to tell
                a silent provider from a caller that has left; the others are the caller's.

        Raises:
            EngineError: With one of the UPSTREAM reasons.
        """
        ...

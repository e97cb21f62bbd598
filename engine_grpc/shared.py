"""What several engines share of their answers, and the engine that shares nothing.

Each engine is the truth for the answers it writes, and reads them from its own memory. Sharing adds three things: a
key names one answer on all engines, an answer can be read and stopped wherever it is written, and readers elsewhere
count as readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine_grpc.answers import Answer, Started


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """An answer that another engine writes or has written."""

    started: Started
    follow: Callable[[Answer], Awaitable[None]]
    """Appends what the other engine writes, and ends as it does; ENGINE_UNAVAILABLE where it is gone."""
    stop: Callable[[Answer], Awaitable[None]]
    """Has the other engine end the answer, and returns when the copy given has ended. Raises ENGINE_UNAVAILABLE."""
    current: Callable[[], bool]
    """Whether a copy has what was written moments ago; not while what is shared is away, nor just after."""


class SharedAnswers(Protocol):
    """The answers of all engines."""

    async def claim(self, started: Started, fingerprint: bytes) -> RemoteAnswer | None:
        """Makes the key of `started` name it on all engines; returns the answer that it names already, if any.

        When what is shared cannot be reached, the key is claimed on this engine alone.

        Args:
            started: With a key.
            fingerprint: Of the question.

        Raises:
            EngineError: IDEMPOTENCY_KEY_REUSED, when the key came with another question.
        """
        ...

    def release(self, started: Started) -> None:
        """Takes back a claim for an answer that was not started after all."""
        ...

    def publish(self, answer: Answer, fingerprint: bytes, stop: Callable[[], None]) -> None:
        """Lets the other engines read an answer from now on, and end it by `stop`."""
        ...

    async def find(self, answer_id: str) -> RemoteAnswer | None:
        """Returns another engine's answer, whoever asked for it; None, where there is none.

        Raises:
            EngineError: ENGINE_UNAVAILABLE, when that cannot be told now.
        """
        ...


class Unshared:
    """One engine alone."""

    async def claim(self, started: Started, fingerprint: bytes) -> RemoteAnswer | None:
        """Nobody else claims anything."""

    def release(self, started: Started) -> None:
        """There is nothing to take back."""

    def publish(self, answer: Answer, fingerprint: bytes, stop: Callable[[], None]) -> None:
        """There is nobody to read it."""

    async def find(self, answer_id: str) -> RemoteAnswer | None:
        """There are no other answers."""

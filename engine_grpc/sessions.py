"""Chat context: what was asked and answered before in the same session, and the last picture.

A session belongs to a student: another student's session of the same name is another session. Only what the student
has seen is remembered. Memory is bounded by turns, bytes and age; the least recently used session goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine_grpc.image import Picture

MAX_TURNS = 8
MAX_BYTES = 256 * 1024 * 1024
"""Of all sessions together; one with a large picture has about 3 MiB."""
MAX_SESSIONS = 10_000
"""Every question without a session begins one: this is what those cost that nobody comes back to."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, as text."""

    question: str
    answer: str
    answer_id: str = ""
    """An answer that is read twice, on two engines even, is still one turn."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a session remembers."""

    turns: tuple[Turn, ...] = ()
    """Oldest first, at most `MAX_TURNS`."""
    picture: Picture | None = None
    """The last one."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        text = sum(len(turn.question) + len(turn.answer) for turn in self.turns)
        return 4 * text + (len(self.picture.data) if self.picture else 0)


class Sessions(Protocol):
    """Where contexts are kept."""

    async def load(self, student_id: str, session_id: str, *, with_picture: bool = True) -> Context:
        """Returns what the session remembers: nothing, for a new one; without the picture where it is not needed.

        Raises:
            EngineError: ENGINE_UNAVAILABLE, when the picture is needed and cannot be had now.
        """
        ...

    async def remember_picture(self, student_id: str, session_id: str, picture: Picture) -> None:
        """Makes `picture` the session's last."""
        ...

    async def remember_turn(self, student_id: str, session_id: str, turn: Turn) -> None:
        """Adds what the student asked and saw."""
        ...


class MemorySessions:
    """Contexts in this process.

    Args:
        ttl: Seconds after its last use until a session is forgotten.
        max_bytes: Of all sessions together.
        clock: Seconds that never go back.
    """

    def __init__(self, ttl: float, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = monotonic) -> None:
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._contexts: OrderedDict[tuple[str, str], tuple[float, Context]] = OrderedDict()

    async def load(self, student_id: str, session_id: str, *, with_picture: bool = True) -> Context:
        """Returns what the session remembers, always with the picture, which costs nothing here; see `Sessions`."""
        self._expire()
        name = (student_id, session_id)
        if name not in self._contexts:
            return Context()
        _, context = self._contexts[name]
        self._put(name, context)  # to read it is to use it
        return context

    async def remember_picture(self, student_id: str, session_id: str, picture: Picture) -> None:
        """Makes `picture` the session's last; see `Sessions`."""
        context = await self.load(student_id, session_id)
        self._put((student_id, session_id), replace(context, picture=picture))

    async def remember_turn(self, student_id: str, session_id: str, turn: Turn) -> None:
        """Adds a turn; see `Sessions`."""
        context = await self.load(student_id, session_id)
        if not (turn.answer_id and turn.answer_id in {known.answer_id for known in context.turns}):
            self._put((student_id, session_id), replace(context, turns=(*context.turns, turn)[-MAX_TURNS:]))

    def _put(self, name: tuple[str, str], context: Context) -> None:
        self._drop(name)
        self._contexts[name] = (self._clock(), context)
        self._bytes += context.size
        self._expire()

    def _drop(self, name: tuple[str, str]) -> None:
        _, context = self._contexts.pop(name, (0.0, Context()))
        self._bytes -= context.size

    def _expire(self) -> None:
        old = self._clock() - self._ttl
        while self._contexts:
            name, (used, _) = next(iter(self._contexts.items()))
            if used > old and self._bytes <= self._max_bytes and len(self._contexts) <= MAX_SESSIONS:
                return
            self._drop(name)

"""Writes answers with a model behind OpenAI's Chat Completions wire, and with a second one where the first fails.

The second is asked only before the first event, when nobody has read anything yet; so which of the two writes an
answer is known when its first event is. What one model's policy refuses is not taken to the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import Begun
from engine_grpc.openai_upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine_grpc.model import ModelEvent, Prompt
    from engine_grpc.openai_reply import Reply
    from engine_grpc.openai_upstream import OpenAIOptions

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 5
"""A provider that asks for a longer pause gets no second try: the student is told to wait instead."""
LONGEST_PAUSE_WITH_FALLBACK_SECONDS = 1
_ASK_ANOTHER = {
    Reason.UPSTREAM_RATE_LIMITED,
    Reason.UPSTREAM_UNAVAILABLE,
    Reason.UPSTREAM_AUTH,
    Reason.UPSTREAM_TRUNCATED,
    Reason.UPSTREAM_PROTOCOL,
    Reason.UPSTREAM_TIMEOUT,
}


class OpenAIModel:
    """A `ChatModel`. Close it after use.

    Args:
        primary: Whom to ask.
        fallback: Whom to ask where that fails.
    """

    def __init__(self, primary: OpenAIOptions, fallback: OpenAIOptions | None = None) -> None:
        self.name = primary.model
        self.settled = fallback is None
        longest_pause = LONGEST_PAUSE_WITH_FALLBACK_SECONDS if fallback else LONGEST_PAUSE_SECONDS
        self._primary = Upstream(primary, "primary", longest_pause)
        self._fallback = Upstream(fallback, "fallback", longest_pause) if fallback else None

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._primary.aclose()
        if self._fallback:
            await self._fallback.aclose()

    async def stream(self, prompt: Prompt, within: float) -> AsyncGenerator[ModelEvent, None]:
        """Yields the answer; see `ChatModel.stream`."""
        reply = await self._begin(prompt, within)
        # Nobody is asked any more, and the answer may take minutes: the picture goes.
        del prompt
        try:
            yield Begun(reply.model)
            while event := await reply.next():
                yield event
        finally:
            reply.close()

    async def _begin(self, prompt: Prompt, within: float) -> Reply:
        now = asyncio.get_running_loop().time()
        if self._fallback is None:
            return await self._primary.begin(prompt, now + within)
        try:
            return await self._primary.begin(prompt, now + within / 2)
        except EngineError as error:
            if error.reason not in _ASK_ANOTHER:
                raise
            failure = error.alone()
        log.info("the fallback is asked", code=str(failure.reason))
        try:
            return await self._fallback.begin(prompt, now + within)
        except EngineError as error:
            raise _combined(failure, error) from None


def _combined(primary: EngineError, fallback: EngineError) -> EngineError:
    """What the student is told when both fail: the primary's failure, unless the fallback's says more.

    It does where it is about the question, and where the primary's, our credentials, leaves nothing to try. Another
    try may come when the first of the two allows it.
    """
    failure = fallback if fallback.reason is Reason.UPSTREAM_REJECTED or not primary.retryable else primary
    waits = [wait for wait in (primary.retry_after, fallback.retry_after) if wait is not None]
    if not failure.retryable or not waits:
        return failure
    return EngineError(failure.reason, failure.message, retry_after=min(waits))

"""Everything that an engine keeps in Redis, opened and closed as one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from engine_grpc.redis_answers import RedisAnswers
from engine_grpc.redis_link import RedisLink
from engine_grpc.redis_sessions import RedisSessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LONGER_SECONDS = 10
"""What an answer on another engine may take beyond its deadline, until it is given up here."""


@asynccontextmanager
async def redis_state(
    url: str, answer_ttl: float, longest: float, session_ttl: float
) -> AsyncIterator[tuple[RedisSessions, RedisAnswers]]:
    """Opens sessions and answers that are shared by a Redis, which need not be there yet.

    Args:
        url: `redis://` or `rediss://`.
        answer_ttl: Seconds that an ended answer is kept.
        longest: Seconds that an answer may take.
        session_ttl: Seconds after its last use until a session is forgotten.
    """
    link = RedisLink(url)
    answers = RedisAnswers(link, answer_ttl, longest + _LONGER_SECONDS)
    try:
        await answers.open()
        yield RedisSessions(link, session_ttl), answers
    finally:
        await answers.aclose()
        await link.aclose()

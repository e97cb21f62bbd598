"""Following an answer that another engine writes, by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from engine_grpc import redis_codec as codec
from engine_grpc.answers import Answer, Started
from engine_grpc.redis_control import Control
from engine_grpc.redis_follow import Follower
from engine_grpc.redis_link import RedisLink
from tests.waiting import turns

if TYPE_CHECKING:
    from tests.redis_server import RedisServer

REDIS_CANARY = "secret-canary"


async def test_following_ends_at_whatever_moment_it_is_cancelled(server: RedisServer) -> None:
    async with Redis.from_url(server.url) as store:
        await store.set("studyai:engine:other", 1)
    link = RedisLink(server.url)
    control = Control(link, "engine", {}, lambda _: None)
    head = codec.Head(Started(student_id="anna", session_id="s", model="m"), "other", "")
    for steps in range(60):
        follower = Follower(link=link, control=control, head=head, longest=60)
        following = asyncio.ensure_future(follower.follow(Answer(head.started)))
        await turns(steps)
        following.cancel()
        _, going_on = await asyncio.wait({following}, timeout=1)
        assert not going_on, steps
    await link.aclose()

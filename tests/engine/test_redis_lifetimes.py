"""How long an answer lives that engines share: its writer, its readers anywhere and the window; and where it counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from engine_grpc import redis_codec as codec
from engine_grpc.answers import Started
from engine_grpc.question import Question
from engine_grpc.redis_scripts import CLAIM, LEASE_PREFIX, claim_name, log_name
from tests import upstream as up
from tests.engine.harness import question
from tests.engine.shared import KEY, STUDENT, TEXT, WORDS, ask, beats, complete, engines, gates, resume, stepped

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.redis_server import RedisServer
    from tests.upstream import Upstream

REDIS_CANARY = "secret-canary"


async def test_answer_outlives_the_engine_that_wrote_it_once_it_has_ended(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    upstream.script(*up.answer(*WORDS))
    async with engines(upstream, server, 1) as (other,):
        async with engines(upstream, server, 1) as (writer,):
            first = await ask(writer).end()
        assert (await resume(other, first.answer_id).end()).text == TEXT
        assert (await complete(other)).text == TEXT
    assert len(upstream.requests) == 1


async def test_reader_on_another_engine_keeps_an_answer_from_being_given_up(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    opening[0].set()
    async with engines(upstream, server, resume_window_seconds=0.3) as two:
        first = await ask(two[0]).has(WORDS[0])
        second = await ask(two[1]).has(WORDS[0])
        asked = await upstream.request()
        first.call.cancel()
        async with beats(store, first.answer_id) as beat:
            # They take longer than a reader elsewhere counts for, and the window after it.
            for _ in range(8):
                await beat()
        assert not asked.closed.is_set()
        for gate in opening:
            gate.set()
        assert (await second.end()).text == TEXT


async def test_answer_is_given_up_when_the_window_after_its_last_reader_anywhere_is_over(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    upstream.default(up.stream_headers(), up.chunk("The"), up.silence())
    async with engines(upstream, server, resume_window_seconds=0.5) as two:
        with capture_logs() as logs:
            first = await ask(two[0]).has("The")
            second = await ask(two[1]).has("The")
            first.call.cancel()
            began = time.monotonic()
            second.call.cancel()
            asked = await upstream.request()
            await asked.closed.within(3)
            assert asked.closed_at is not None
            assert 0.4 < asked.closed_at - began < 1.5
            assert (await resume(two[1], first.answer_id).end()).reason == "ANSWER_NOT_FOUND"
        assert [entry["outcome"] for entry in logs if entry["event"] == "answer ended"] == ["client_gone"]
        again = await ask(two[1]).has("The")
        assert again.answer_id != first.answer_id


async def test_claim_that_nobody_answers_for_is_dropped_and_its_key_asks_anew(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    upstream.script(*up.answer(*WORDS))
    async with engines(upstream, server, 1) as (owner,):
        (lease,) = [name.decode() async for name in store.scan_iter("studyai:engine:*")]
        # As when Redis did what it was told only after who told it had gone.
        orphan = Started(student_id=STUDENT, session_id="s", model="m")
        head = codec.Head(orphan, lease.removeprefix("studyai:engine:"), claim_name(STUDENT, KEY))
        asked = question(student_id=STUDENT)
        fingerprint = Question.checked(
            image=asked.image, prompt=asked.prompt, subject="", session_id="", student_id=STUDENT
        ).fingerprint()
        keys = (head.claim, log_name(orphan.answer_id))
        values = (orphan.answer_id, fingerprint, head.engine_id, 60_000, codec.encode_start(head), LEASE_PREFIX)
        await store.eval(CLAIM, 2, *keys, *values)
        async with engines(upstream, server, 1) as (other,):
            assert (await ask(other).end()).reason == "ENGINE_UNAVAILABLE"
            assert not await store.exists(*keys)
            assert (await ask(other).end()).text == TEXT
            assert (await ask(owner).end()).text == TEXT


async def test_copies_do_not_count_as_answers_that_are_written(
    upstream: Upstream, server: RedisServer, store: Redis
) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    upstream.script(*up.answer(*WORDS))
    async with engines(upstream, server, max_concurrent_answers=1) as two:
        await ask(two[0]).has("The")
        await ask(two[1]).has("The")
        assert (await ask(two[0], key="other").end()).reason == "OVERLOADED"
        assert (await ask(two[1], key="other").end()).text == TEXT

"""Redis stopped, killed, full or not there yet, and engines that die: streams go on, and what cannot be had says so."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from studyai.v1 import chat_pb2_grpc

from engine_grpc import metrics, redis_answers, redis_follow
from engine_grpc.redis_follow import LEASE_MS
from engine_grpc.redis_link import COMMAND_SECONDS
from tests import upstream as up
from tests.engine.shared import (
    RECOVERY_SECONDS,
    TEXT,
    WORDS,
    ask,
    beats,
    engines,
    gates,
    goes_on,
    recovered,
    refused,
    resume,
    started,
    stepped,
    stop,
)
from tests.processes import free_port, running_engine_process
from tests.redis_server import delayed, running_redis
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from tests.redis_server import RedisServer
    from tests.upstream import Upstream

    Logs = Sequence[Mapping[str, Any]]

LOST_KEYS = ("read-elsewhere", "alone")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis("secret-canary") as running:
        yield running


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as captured:
        yield captured


async def test_live_stream_does_not_notice_that_redis_is_stopped(
    upstream: Upstream, server: RedisServer, logs: Logs
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    async with engines(upstream, server) as two:
        reader = await started(two[0], opening)
        server.pause()
        await goes_on(reader, opening[1:3])
        await noticed(logs)
        server.go_on()
        copy = await recovered(two[1], reader, "".join(WORDS[:3]))
        opening[3].set()
        assert (await reader.end()).text == (await copy.end()).text == TEXT


@pytest.mark.parametrize("seconds", [0.05, 1], ids=["slow", "too slow to wait for"])
async def test_live_stream_does_not_notice_that_redis_is_slow(
    upstream: Upstream, server: RedisServer, seconds: float
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    async with delayed(server, seconds) as slow, engines(upstream, slow) as two:
        reader = await started(two[0], opening)
        await goes_on(reader, opening[1:])
        assert (await reader.end()).text == TEXT
        if seconds < COMMAND_SECONDS / 2:
            assert (await recovered(two[1], reader, TEXT)).text == TEXT


async def test_live_stream_survives_a_redis_that_comes_back_empty(
    upstream: Upstream, server: RedisServer, logs: Logs
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    upstream.script(up.stream_headers(), up.chunk("Hm"), up.silence())
    async with engines(upstream, server) as two:
        reader = await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        thinking = await ask(two[0], "thinking").has("Hm")
        (await resume(two[1], thinking.answer_id).has("Hm")).call.cancel()
        await until(lambda: not two[1].answers.knows(thinking.answer_id))
        server.kill()
        await goes_on(reader, opening[1:3])
        await noticed(logs)
        server.start()
        await copy.has("".join(WORDS[:3]))
        late = await recovered(two[1], reader, "".join(WORDS[:3]))
        await recovered(two[1], thinking, "Hm")
        joined = await ask(two[1]).begun()
        assert joined.answer_id == reader.answer_id
        await stop(two[1], reader.answer_id)
        for one in (reader, copy, late, joined):
            assert (await one.end()).text == "".join(WORDS[:3])
    assert len(upstream.requests) == 2


async def test_live_stream_does_not_notice_that_redis_is_full(
    upstream: Upstream, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_follow, "GONE_SECONDS", 0.3)
    monkeypatch.setattr(redis_follow, "_SILENT_SECONDS", 30)
    opening = gates()
    upstream.script(*stepped(opening))
    upstream.script(*up.answer(*WORDS))
    async with engines(upstream, server) as two, Redis.from_url(server.url) as store:
        reader = await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        await store.set("as old as any lease", 1)
        await store.config_set("maxmemory", "1")
        await store.pexpire("as old as any lease", LEASE_MS)
        assert (await ask(two[1], key="other").end()).text == TEXT
        await goes_on(reader, opening[1:3])
        # A full Redis is not a dead engine: the copy is read on when the leases would have run out.
        async with beats(store, reader.answer_id) as beat:
            while await store.exists("as old as any lease"):
                await beat()
            for _ in range(4):
                await beat()
        await store.config_set("maxmemory", "0")
        began = time.monotonic()
        await copy.has("".join(WORDS[:3]))
        assert time.monotonic() - began < RECOVERY_SECONDS
        opening[3].set()
        assert (await copy.end()).text == (await reader.end()).text == TEXT


async def test_questions_are_answered_and_foreign_answers_refused_while_redis_is_away(
    upstream: Upstream, server: RedisServer
) -> None:
    upstream.default(*up.answer(*WORDS))
    async with engines(upstream, server) as two:
        first = await ask(two[0]).end()
        counted = redis_failures()
        server.pause()
        began = time.monotonic()
        assert (await ask(two[0], key="other", session_id="s").end()).text == TEXT
        assert (await ask(two[0]).end()).answer_id == first.answer_id
        assert (await resume(two[0], first.answer_id).end()).text == TEXT
        assert (await resume(two[1], first.answer_id).end()).reason == "ENGINE_UNAVAILABLE"
        assert await refused(stop(two[1], first.answer_id)) == "ENGINE_UNAVAILABLE"
        assert time.monotonic() - began < 3
        began = time.monotonic()
        for number in range(20):
            await ask(two[0], key=f"later-{number}", session_id="s").end()
        assert time.monotonic() - began < 2
        assert redis_failures() > counted
        server.go_on()


async def test_reader_who_is_ahead_of_a_copy_that_cannot_grow_may_try_again(
    upstream: Upstream, server: RedisServer
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    async with engines(upstream, server) as two:
        reader = await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        server.pause()
        await goes_on(reader, opening[1:3])
        assert (await resume(two[1], reader.answer_id, 3).end()).reason == "ENGINE_UNAVAILABLE"
        server.go_on()
        await copy.has("".join(WORDS[:3]))


async def test_copies_outlive_a_pause_in_which_every_lease_runs_out(upstream: Upstream, server: RedisServer) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    async with engines(upstream, server) as two, Redis.from_url(server.url) as store:
        reader = await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        async with beats(store, reader.answer_id) as beat:
            server.pause()
            # The outage itself: longer than a lease lasts, shorter than what a copy does not outlive.
            await asyncio.sleep(LEASE_MS / 1000 + 1)
            server.go_on()
            # The copy is read on when its lease is known to be missing, or back.
            for _ in range(3):
                await beat()
        for gate in opening:
            gate.set()
        assert (await copy.end()).text == (await reader.end()).text == TEXT


async def test_engine_without_a_lease_for_a_moment_is_not_taken_for_dead(
    upstream: Upstream, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What passes here, three beats and a renewal, is a moment on a slow machine too.
    for module in (redis_answers, redis_follow):
        monkeypatch.setattr(module, "GONE_SECONDS", 30)
    opening = gates()
    upstream.script(*stepped(opening))
    async with engines(upstream, server) as two, Redis.from_url(server.url) as store:
        reader = await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        copy.call.cancel()
        resumed = await resume(two[1], reader.answer_id).has(WORDS[0])
        leases = [name async for name in store.scan_iter("studyai:engine:*")]
        async with beats(store, reader.answer_id) as beat:
            await store.delete(*leases)
            joined = ask(two[1])
            for _ in range(3):
                heard = asyncio.ensure_future(beat())
                while not heard.done():
                    await store.delete(*leases)
                await heard
        for gate in opening:
            gate.set()
        for one in (reader, resumed, joined):
            assert (await one.end()).text == TEXT
        assert joined.answer_id == reader.answer_id
    assert len(upstream.requests) == 1


async def test_copy_of_an_answer_ends_in_time_when_redis_does_not_come_back(
    upstream: Upstream, server: RedisServer
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    async with engines(upstream, server) as two:
        await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        server.pause()
        assert (await copy.end(within=15)).reason == "ENGINE_UNAVAILABLE"
        server.go_on()


async def full(store: Redis) -> None:
    await store.config_set("maxmemory", "1")


async def read_only(store: Redis) -> None:
    """As after a failover: it is the replica of another, which cannot be reached here."""
    await store.replicaof("127.0.0.1", free_port())


@pytest.mark.parametrize("refusing", [full, read_only])
async def test_copy_of_an_answer_ends_in_time_when_redis_refuses_to_be_written_to(
    upstream: Upstream, server: RedisServer, logs: Logs, refusing: Callable[[Redis], Awaitable[None]]
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    async with engines(upstream, server) as two, Redis.from_url(server.url) as store:
        reader = await started(two[0], opening)
        copy = await ask(two[1]).has(WORDS[0])
        counted = redis_failures()
        await refusing(store)
        await goes_on(reader, opening[1:3])
        assert (await resume(two[1], reader.answer_id, 3).end()).reason == "ENGINE_UNAVAILABLE"
        assert (await copy.end(within=15)).reason == "ENGINE_UNAVAILABLE"
        assert redis_failures() > counted
        opening[3].set()
        assert (await reader.end()).text == TEXT
    assert [entry["outcome"] for entry in logs if entry["event"] == "answer ended"] == ["completed"]


async def test_ended_answer_is_told_elsewhere_though_redis_is_full(upstream: Upstream, server: RedisServer) -> None:
    upstream.script(*up.answer(*WORDS))
    async with engines(upstream, server) as two, Redis.from_url(server.url) as store:
        reader = await ask(two[0]).end()
        await recovered(two[1], reader, TEXT)
        await full(store)
        assert (await resume(two[1], reader.answer_id).end()).text == TEXT


async def test_engine_starts_without_redis_and_shares_once_it_is_there(upstream: Upstream, server: RedisServer) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    server.kill()
    with capture_logs() as logs:
        async with engines(upstream, server) as two:
            reader = await started(two[0], opening)
            server.start()
            await (await recovered(two[1], reader, WORDS[0])).has(WORDS[0])
    assert [entry["log_level"] for entry in logs if entry["event"] == "redis cannot be reached"] == ["warning"] * 2
    assert "secret-canary" not in str(logs)


async def test_readers_elsewhere_are_told_when_the_engine_dies_and_its_keys_ask_anew(
    upstream: Upstream, server: RedisServer
) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    upstream.default(*up.answer(*WORDS))
    with running_engine_process(upstream.base_url, STATE_URL=server.url) as process, capture_logs() as logs:
        async with (
            engines(upstream, server) as two,
            grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel,
        ):
            stub = chat_pb2_grpc.ChatServiceStub(channel)
            dying = [await ask(stub, key).has("The") for key in LOST_KEYS]
            copies = [await ask(engine, LOST_KEYS[0]).has("The") for engine in two]
            process.stop(signal.SIGKILL)
            began = time.monotonic()
            for copy in copies:
                assert (await copy.end(within=15)).reason == "ENGINE_UNAVAILABLE"
            assert 2 < time.monotonic() - began < 10
            for key, lost in zip(LOST_KEYS, dying, strict=True):
                again = [ask(engine, key) for engine in two * 3]
                assert [(await one.end()).text for one in again] == [TEXT] * 6
                assert len({one.answer_id for one in again} - {lost.answer_id}) == 1
                lost.call.cancel()
    outcomes = sorted(entry["outcome"] for entry in logs if entry["event"] == "answer ended")
    assert outcomes == ["completed", "completed", "engine_lost", "engine_lost"]
    assert "secret-canary" not in process.log
    assert len(upstream.requests) == 4


async def noticed(logs: Logs) -> None:
    """Both engines have found that Redis is away."""
    await until(lambda: [entry["event"] for entry in logs].count("redis cannot be reached") == 2)


def redis_failures() -> float:
    return metrics.REGISTRY.get_sample_value("studyai_redis_failures_total") or 0

"""Two engines on one Redis: any of them joins, resumes, replays and stops any answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from studyai.v1 import chat_pb2

from engine_grpc.redis_scripts import channel_name
from tests import upstream as up
from tests.engine.shared import KEY, STUDENT, TEXT, WORDS, ask, complete, engines, gates, refused, resume, stepped, stop
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from tests.engine.harness import RunningEngine
    from tests.redis_server import RedisServer
    from tests.upstream import Upstream

REDIS_CANARY = "secret-canary"
Two = tuple["RunningEngine", "RunningEngine"]


@pytest.fixture
async def two(upstream: Upstream, server: RedisServer, store: Redis) -> AsyncIterator[Two]:
    async with engines(upstream, server) as running:
        yield running[0], running[1]


async def test_same_key_on_another_engine_joins_the_live_answer(two: Two, upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    opening[0].set()
    first = await ask(two[0]).has(WORDS[0])
    second = await ask(two[1]).has(WORDS[0])
    third = asyncio.ensure_future(complete(two[1]))
    for gate in opening:
        gate.set()
    for reader in (await first.end(), await second.end()):
        assert reader.text == TEXT
        assert reader.sequence == len(WORDS) + 1
    assert second.answer_id == first.answer_id
    assert second.finished == first.finished
    whole = await third
    assert (whole.text, whole.finished, whole.started) == (TEXT, first.finished, first.started)
    assert len(upstream.requests) == 1
    assert two[1].answers.live == 0


@pytest.mark.parametrize(
    "message",
    [b"stop canary", b"stop canary by me", b"", b"stop \xff\xfe me"],
    ids=["short", "long", "empty", "not UTF-8"],
)
async def test_engine_obeys_others_after_a_message_that_it_does_not_understand(
    two: Two, upstream: Upstream, store: Redis, message: bytes
) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    opening[0].set()
    reader = await ask(two[0]).has(WORDS[0])
    with capture_logs() as logs:
        for channel in await store.pubsub_channels(channel_name("*")):
            await store.publish(channel, message)
        await stop(two[1], reader.answer_id)
    assert (await reader.end()).text == WORDS[0]
    warned = [entry for entry in logs if entry["log_level"] == "warning"]
    assert {entry["event"] for entry in warned} == {"a message to this engine is not understood"}
    assert "canary" not in str(warned)


async def test_fifty_first_requests_with_one_key_on_two_engines_ask_the_model_once(
    two: Two, upstream: Upstream
) -> None:
    upstream.default(*up.answer(*WORDS))

    async def text(number: int) -> str:
        engine = two[number % 2]
        if number % 4 < 2:
            return (await ask(engine).end()).text
        return (await complete(engine)).text

    async with asyncio.timeout(10):
        texts = await asyncio.gather(*map(text, range(50)))
    assert texts == [TEXT] * 50
    assert len(upstream.requests) == 1


async def test_answer_is_resumed_on_another_engine_behind_any_event(two: Two, upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    for gate in opening[:3]:
        gate.set()
    first = await ask(two[0]).has("".join(WORDS[:3]))
    readers = [resume(two[1], first.answer_id, after) for after in range(4)]
    for after, reader in enumerate(readers[:3]):
        await reader.has("".join(WORDS[after:3]))
    opening[3].set()
    for after, reader in enumerate(readers):
        await reader.end()
        assert reader.text == "".join(WORDS[after:])
        assert (reader.started is not None) == (after == 0)
        assert reader.sequence == len(WORDS) + 1


async def test_sequence_numbers_mean_the_same_on_both_engines_however_deltas_were_joined(
    two: Two, upstream: Upstream
) -> None:
    words = [f"w{number} " for number in range(200)]
    upstream.script(*up.answer(*words))
    first = await ask(two[0]).end()
    for after in (0, 1, 57, 199, 200):
        for engine in two:
            reader = await resume(engine, first.answer_id, after).end()
            assert reader.text == "".join(words[after:])
            assert reader.sequence == 201


async def test_ended_answer_is_replayed_and_joined_on_another_engine(two: Two, upstream: Upstream) -> None:
    upstream.script(*up.answer(*WORDS))
    first = await ask(two[0]).end()
    replayed = await resume(two[1], first.answer_id).end()
    joined = await ask(two[1]).end()
    for reader in (replayed, joined):
        assert (reader.text, reader.finished, reader.started) == (TEXT, first.finished, first.started)
    assert len(upstream.requests) == 1


async def test_answer_without_a_key_is_resumed_and_stopped_elsewhere_as_well(two: Two, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    first = await ask(two[0], key="").begun()
    second = await resume(two[1], first.answer_id).has("The")
    await stop(two[1], first.answer_id)
    assert (await second.end()).finished == (await first.end()).finished


async def test_failure_is_the_same_on_every_engine(two: Two, upstream: Upstream) -> None:
    broken = gates(1)
    upstream.script(up.stream_headers(), up.chunk("The"), up.gate(broken[0]), up.close())
    upstream.script(*up.answer(*WORDS))
    first = await ask(two[0]).has("The")
    second = await ask(two[1]).has("The")
    broken[0].set()
    assert (await first.end()).reason == (await second.end()).reason == "UPSTREAM_TRUNCATED"
    await until(lambda: asked_anew(two[1]))
    assert len(upstream.requests) == 2


async def asked_anew(engine: RunningEngine) -> bool:
    return (await ask(engine).end()).text == TEXT


async def test_stop_on_another_engine_ends_every_stream_and_the_model_call(two: Two, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    first = await ask(two[0]).has("The")
    second = await ask(two[1]).has("The")
    asked = await upstream.request()
    began = time.monotonic()
    await stop(two[1], first.answer_id)
    await asked.closed.within()
    assert asked.closed_at is not None
    assert asked.closed_at - began < 0.25
    for reader in (await first.end(), await second.end()):
        assert reader.finished is not None
        assert reader.finished.finish_reason == chat_pb2.FINISH_REASON_STOPPED
        assert reader.finished.usage.estimated
    await stop(two[1], first.answer_id)


async def test_same_key_with_another_question_is_refused_on_every_engine(two: Two, upstream: Upstream) -> None:
    upstream.script(*up.answer(*WORDS))
    await ask(two[0]).end()
    assert (await ask(two[1], prompt="What is y?").end()).reason == "IDEMPOTENCY_KEY_REUSED"
    assert len(upstream.requests) == 1


async def test_event_that_is_not_there_yet_is_refused_on_every_engine(two: Two, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    first = await ask(two[0]).has("The")
    for engine in two:
        assert (await resume(engine, first.answer_id, 9).end()).reason == "INVALID_REQUEST"
    await stop(two[0], first.answer_id)
    for engine in two:
        assert (await resume(engine, first.answer_id, 9).end()).reason == "INVALID_REQUEST"


async def test_draining_engine_finishes_an_answer_that_is_read_elsewhere(two: Two, upstream: Upstream) -> None:
    opening = gates()
    upstream.script(*stepped(opening))
    opening[0].set()
    first = await ask(two[0]).has(WORDS[0])
    second = await ask(two[1]).has(WORDS[0])
    answer = two[0].answers.find(first.answer_id, STUDENT)
    await until(lambda: answer.readers == 2)  # what the other engine says of its reader takes its way
    first.call.cancel()
    draining = asyncio.ensure_future(two[0].stop(5))
    await until(lambda: answer.readers == 1)
    for number, gate in enumerate(opening[1:3], start=2):
        gate.set()
        await second.has("".join(WORDS[:number]))
    assert not draining.done()
    for gate in opening:
        gate.set()
    assert (await second.end()).text == TEXT
    async with asyncio.timeout(1):
        await draining


async def test_draining_engine_tells_the_readers_elsewhere_when_its_time_is_over(two: Two, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    first = await ask(two[0]).has("The")
    second = await ask(two[1]).has("The")
    first.call.cancel()
    await two[0].stop(0)
    assert (await second.end()).reason == "DRAINING"


async def test_copy_is_dropped_when_its_last_reader_leaves(two: Two, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    first = await ask(two[0]).has("The")
    second = await ask(two[1]).has("The")
    assert two[1].answers.knows(first.answer_id)
    second.call.cancel()
    await until(lambda: not two[1].answers.knows(first.answer_id))
    assert two[0].answers.knows(first.answer_id)


async def test_end_is_logged_once_whoever_read_it(two: Two, upstream: Upstream) -> None:
    upstream.script(*up.answer(*WORDS))
    with capture_logs() as logs:
        await ask(two[0]).end()
        await ask(two[1]).end()
    assert [entry["outcome"] for entry in logs if entry["event"] == "answer ended"] == ["completed"]


async def test_other_students_find_nothing_on_any_engine(two: Two, upstream: Upstream) -> None:
    upstream.default(up.stream_headers(), up.chunk("The"), up.silence())
    students = ("anna", "ben")
    own = {student: await ask(two[0], student_id=student).has("The") for student in students}
    assert own["anna"].answer_id != own["ben"].answer_id
    for student, other, engine in itertools.product(students, students, two):
        answer_id = own[other].answer_id
        if student != other:
            assert (await resume(engine, answer_id, 0, student).end()).reason == "ANSWER_NOT_FOUND"
            assert (await resume(engine, answer_id, 1, student).end()).reason == "ANSWER_NOT_FOUND"
            request = chat_pb2.StopAnswerRequest(answer_id=answer_id, student_id=student)
            assert await refused(engine.stub.StopAnswer(request)) == "ANSWER_NOT_FOUND"
        else:
            assert (await ask(engine, student_id=student).has("The")).answer_id == answer_id
            await resume(engine, answer_id, 0, student).has("The")
    for engine in two:
        assert (await resume(engine, "0" * 32).end()).reason == "ANSWER_NOT_FOUND"


async def test_every_key_expires_and_no_name_tells_who_or_what(two: Two, upstream: Upstream, store: Redis) -> None:
    upstream.script(*up.answer(*WORDS))
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    upstream.script(up.stream_headers(), up.chunk("The"), up.close())
    upstream.script(*up.answer(*WORDS))
    upstream.script(up.stream_headers(), up.chunk("The"), up.silence())
    await ask(two[0], session_id="session-canary").end()
    await ask(two[1], session_id="session-canary").end()
    await ask(two[0], key="live-canary").has("The")
    await ask(two[1], key="live-canary").has("The")
    await ask(two[1], key="failed-canary").end()
    for keyless in (await ask(two[0], key="").end(), await ask(two[0], key="").has("The")):
        await resume(two[1], keyless.answer_id).begun()

    async def kinds() -> bool:
        names = [name async for name in store.scan_iter()]
        return {name.split(b":")[1] for name in names} == {b"answer", b"engine", b"key", b"session"}

    await until(kinds)
    names = [name async for name in store.scan_iter()]
    assert all([await store.pttl(name) > 0 for name in names]), names
    assert not [name for name in names for word in (b"canary", STUDENT.encode(), KEY.encode()) if word in name]


async def test_log_holds_each_delta_once_under_its_own_number(two: Two, upstream: Upstream, store: Redis) -> None:
    upstream.script(*up.answer(*WORDS))
    first = await ask(two[0]).end()
    entries: list[Any] = []

    async def ended() -> bool:
        entries[:] = await store.xrange(f"studyai:answer:{first.answer_id}:log") or []
        return bool(entries) and entries[-1][0] == b"5-1"

    await until(ended)
    deltas = [delta for _, fields in entries for delta in json.loads(fields[b"e"]).get("deltas", ())]
    assert deltas == WORDS

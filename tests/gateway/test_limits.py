"""What one student may ask: how often, and how much at once."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.gateway.conftest import RunningGateway, gateway_with
from tests.gateway.fake_engine import FakeEngine, failure
from tests.gateway.test_fallback import ANSWER
from tests.gateway.tokens import SECRET, bearer, token
from tests.gateway.wire import FALLBACK, STREAM, Connection, connect, question
from tests.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESUME = "/api/ai/answers/0f4c9a6be1d24c0f9a3b7d5e8c1f2a6b"


async def ask(
    gateway: RunningGateway, engine: FakeEngine, student: str | None = "one", path: str = FALLBACK, **headers: str
) -> Connection:
    """Asks, and has the answer of one that is let in."""
    async with gateway.post(path, question(student_id=student), **headers) as client:
        reading, calling = asyncio.create_task(client.read_head()), asyncio.create_task(engine.next_call())
        await asyncio.wait({reading, calling}, return_when=asyncio.FIRST_COMPLETED)
        if calling.done():
            await answered(calling.result(), path)
        calling.cancel()
        await reading
    return client


def left_and_seconds(client: Connection) -> tuple[int, int]:
    told = re.fullmatch(r'"default";r=(\d+);t=(\d+)', client.headers["ratelimit"])
    assert told
    return int(told[1]), int(told[2])


async def answered(call: Any, path: str) -> None:
    if path == FALLBACK:
        call.close(ANSWER)
    else:
        await call.start()
        await call.finish()


async def test_nothing_is_limited_by_default(engine: FakeEngine) -> None:
    async with gateway_with(engine) as gateway:
        for _ in range(5):
            client = await ask(gateway, engine)
            assert client.status == 200
            assert not [name for name in client.headers if name.startswith("ratelimit")]


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
async def test_answers_tell_what_is_left_and_refusals_when_to_come_back(engine: FakeEngine, path: str) -> None:
    async with gateway_with(engine, rate_limit="2/minute") as gateway:
        for remaining in (1, 0):
            client = await ask(gateway, engine, path=path)
            assert client.status == 200
            assert client.headers["ratelimit-policy"] == '"default";q=2;w=60'
            left, seconds = left_and_seconds(client)
            assert left == remaining
            assert 0 < seconds <= 60
        async with gateway.post(path, question(student_id="one")) as client:
            await client.read_head()
            reply = await client.read_json()
        assert (client.status, reply["code"], reply["retryable"]) == (429, "RATE_LIMITED", True)
        left, seconds = left_and_seconds(client)
        assert left == 0
        assert int(client.headers["retry-after"]) == seconds
        assert (await ask(gateway, engine, "two", path)).status == 200


async def test_several_limits_are_told_apart_and_the_longest_wait_is_told(engine: FakeEngine) -> None:
    async with gateway_with(engine, rate_limit="1/minute; 1 per 2 hours; 5/day") as gateway:
        client = await ask(gateway, engine)
        assert client.headers["ratelimit-policy"] == '"1/60s";q=1;w=60, "1/7200s";q=1;w=7200, "5/86400s";q=5;w=86400'
        told = re.sub(r"t=\d+", "t", client.headers["ratelimit"])
        assert told == '"1/60s";r=0;t, "1/7200s";r=0;t, "5/86400s";r=4;t'
        client = await ask(gateway, engine)
        waits = [int(seconds) for seconds in re.findall(r"r=0;t=(\d+)", client.headers["ratelimit"])]
        assert (client.status, len(waits)) == (429, 2)
        assert int(client.headers["retry-after"]) == max(waits)


async def test_every_question_counts_and_nothing_else_does(engine: FakeEngine) -> None:
    async with gateway_with(engine, rate_limit="4/hour") as gateway:
        # By both routes, by both paths, with a key that was used before, and without success.
        for path, remaining in ((STREAM, 3), (FALLBACK, 2), (STREAM, 1)):
            client = await ask(gateway, engine, path=path, idempotency_key="k")
            assert f"r={remaining};" in client.headers["ratelimit"]
        async with gateway.post("/api/v1/chat-image", question(student_id="one")) as client:
            (await engine.next_call()).fail(failure(grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"))
            await client.read_head()
            assert client.status == 503
            assert "r=0;" in client.headers["ratelimit"]
        for method in ("GET", "DELETE"):
            async with connect(gateway.port) as client:
                await client.send(method, RESUME + "?student_id=one")
                (await engine.next_call()).fail(failure(grpc.StatusCode.NOT_FOUND, "ANSWER_NOT_FOUND"))
                await client.read_head()
                assert client.status == 404
                assert "ratelimit" not in client.headers


async def test_students_who_do_not_say_who_they_are_are_one(engine: FakeEngine) -> None:
    async with gateway_with(engine, rate_limit="3/hour") as gateway:
        for student, status in ((None, 200), ("", 200), ("anonymous", 200), (None, 429)):
            assert (await ask(gateway, engine, student)).status == status


async def test_tokens_student_is_refused_before_the_body_is_read(engine: FakeEngine) -> None:
    async with gateway_with(engine, rate_limit="1/hour", auth_jwt_key=SECRET) as gateway:
        assert (await ask(gateway, engine, None, **bearer(token("one")))).status == 200
        async with connect(gateway.port) as client:
            await client.send_head("POST", STREAM, content_length="3000000", **bearer(token("one")))
            await client.read_head()
            assert client.status == 429
        assert (await ask(gateway, engine, None, **bearer(token("two")))).status == 200


async def test_gateways_that_share_a_redis_share_the_limit(engine: FakeEngine) -> None:
    with running_redis() as redis:
        async with (
            gateway_with(engine, rate_limit="3/hour", state_url=redis.url) as one,
            gateway_with(engine, rate_limit="3/hour", state_url=redis.url) as two,
        ):
            told = [await ask(gateway, engine) for gateway in (one, two, one, two)]
    assert [client.status for client in told] == [200, 200, 200, 429]
    assert [client.headers["ratelimit"].split(";")[1] for client in told] == ["r=2", "r=1", "r=0", "r=0"]


async def test_redis_that_is_gone_refuses_nobody(engine: FakeEngine) -> None:
    with running_redis() as redis:
        redis.kill()
        async with gateway_with(engine, rate_limit="3/hour", state_url=redis.url) as gateway:
            assert (await ask(gateway, engine)).status == 200


@asynccontextmanager
async def open_question(gateway: RunningGateway, engine: FakeEngine, student: str = "one") -> AsyncIterator[Any]:
    """A stream that goes on."""
    async with gateway.post(STREAM, question(student_id=student)) as client:
        call = await engine.next_call()
        await call.start()
        await client.read_head()
        assert client.status == 200
        yield client, call


async def assert_full(gateway: RunningGateway, student: str = "one") -> None:
    for path in (STREAM, FALLBACK):
        async with gateway.post(path, question(student_id=student)) as client:
            await client.read_head()
            reply = await client.read_json()
        assert (client.status, reply["code"]) == (429, "RATE_LIMITED")
        assert int(client.headers["retry-after"]) >= 1


async def test_student_may_have_so_many_answers_at_once(engine: FakeEngine) -> None:
    async with (
        gateway_with(engine, max_concurrent_answers_per_student=2) as gateway,
        open_question(gateway, engine),
        open_question(gateway, engine) as (client, call),
    ):
        await assert_full(gateway)
        assert (await ask(gateway, engine, "two")).status == 200
        # Reading an answer again is no new one.
        async with connect(gateway.port) as reader:
            await reader.send("GET", RESUME + "?student_id=one")
            (await engine.next_call()).fail(failure(grpc.StatusCode.NOT_FOUND, "ANSWER_NOT_FOUND"))
            await reader.read_head()
            assert reader.status == 404
        await call.finish()
        await client.read_body()
        assert (await ask(gateway, engine)).status == 200


async def leave(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with open_question(gateway, engine) as (_, call):
        pass
    await call.cancelled.wait()


async def leave_before_the_answer(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(FALLBACK, question(student_id="one")):
        call = await engine.next_call()
    await call.cancelled.wait()


async def fail_before_the_start(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, question(student_id="one")) as client:
        (await engine.next_call()).fail(failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        await client.read_head()
        assert client.status == 500


async def fail_after_the_start(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with open_question(gateway, engine) as (client, call):
        call.fail(failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        await client.read_body()


async def send_no_picture(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, question(student_id="one", base64_image="*")) as client:
        await client.read_head()
        assert client.status == 422


async def send_too_much(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post(STREAM, b" " * 4_000_000, **bearer(token("one"))) as client:
        await client.read_head()
        assert client.status == 413


async def leave_during_the_upload(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with connect(gateway.port) as client:
        await client.send_head("POST", STREAM, content_length="3000000", **bearer(token("one")))
        await gateway.until_busy()


@pytest.mark.parametrize(
    "end",
    [
        leave,
        leave_before_the_answer,
        fail_before_the_start,
        fail_after_the_start,
        send_no_picture,
        send_too_much,
        leave_during_the_upload,
    ],
)
async def test_place_is_free_again_however_a_request_ends(engine: FakeEngine, end: Any) -> None:
    by_token = {"auth_jwt_key": SECRET} if end in (send_too_much, leave_during_the_upload) else {}
    async with gateway_with(engine, max_concurrent_answers_per_student=1, **by_token) as gateway:
        for _ in range(3):
            await end(gateway, engine)
            await gateway.rest()
        headers = bearer(token("one")) if by_token else {}
        assert (await ask(gateway, engine, **headers)).status == 200


async def test_question_without_a_place_does_not_count(engine: FakeEngine) -> None:
    async with gateway_with(engine, max_concurrent_answers_per_student=1, rate_limit="2/hour") as gateway:
        async with open_question(gateway, engine):
            await assert_full(gateway)
        await gateway.rest()
        assert (await ask(gateway, engine)).status == 200


async def test_question_that_no_engine_has_room_for_is_refused_before_it_counts(engine: FakeEngine) -> None:
    headers = bearer(token("one"))
    async with gateway_with(engine, auth_jwt_key=SECRET, rate_limit="4/hour") as gateway:
        for _ in range(3):
            async with gateway.post(FALLBACK, **headers) as client:
                (await engine.next_call()).fail(failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED"))
                await client.read_head()
                left, _ = left_and_seconds(client)
        async with gateway.post(FALLBACK, **headers) as client:
            await client.read_head()
            assert (client.status, "ratelimit" in client.headers) == (503, False)
        assert left == 1


async def test_many_at_once_are_let_in_up_to_the_limit(engine: FakeEngine) -> None:
    async with gateway_with(engine, max_concurrent_answers_per_student=3) as gateway, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(gateway.post(STREAM, question(student_id="one"))) for _ in range(10)]
        for call in [await engine.next_call() for _ in range(3)]:
            await call.start()
        await asyncio.gather(*(client.read_head() for client in clients))
        assert sorted(client.status for client in clients) == [200] * 3 + [429] * 7

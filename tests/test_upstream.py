"""The scripted model's server as the client of OpenAI sees it, and what it tells a test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import openai
import pytest

from tests.upstream import (
    Signal,
    Upstream,
    answer,
    chunk,
    done,
    empty_choices,
    error_object,
    events,
    finish,
    gate,
    gated,
    pieces,
    refusal,
    reply,
    role,
    silence,
    stream_headers,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai.types.chat import ChatCompletionChunk

WAIT_SECONDS = 5.0
EMOJI = "π ≈ 3.14 \u2028 漢字 🧮"


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key="k", base_url=upstream.base_url, max_retries=0, timeout=WAIT_SECONDS
    ) as running:
        yield running


async def ask(client: openai.AsyncOpenAI) -> openai.AsyncStream[ChatCompletionChunk]:
    return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why?"}], stream=True)


async def chunks(client: openai.AsyncOpenAI) -> list[ChatCompletionChunk]:
    async with await ask(client) as stream:
        return [one async for one in stream]


def text(received: list[ChatCompletionChunk]) -> str:
    return "".join(one.choices[0].delta.content or "" for one in received if one.choices)


async def test_openai_client_reads_the_default_answer(client: openai.AsyncOpenAI) -> None:
    received = await chunks(client)
    assert text(received) == "Hello there."
    assert [one.choices[0].finish_reason for one in received if one.choices][-1] == "stop"
    assert received[-1].usage is not None
    assert received[-1].usage.total_tokens == 50


async def test_scripts_are_used_in_order_and_then_the_default(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    upstream.script(answer("one"))
    upstream.script(stream_headers(), role(), chunk("t"), chunk("wo"), finish(), usage(1, 2), done())
    upstream.default(answer("rest"))
    assert [text(await chunks(client)) for _ in range(4)] == ["one", "two", "rest", "rest"]


async def test_request_is_recorded(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    await chunks(client)
    request = await upstream.request(0)
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer k"
    assert request.json["messages"] == [{"role": "user", "content": "Why?"}]


async def test_kept_alive_connection_serves_the_next_request(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    upstream.script(reply(503))
    with pytest.raises(openai.InternalServerError):
        await chunks(client)
    await chunks(client)
    first, second = upstream.requests
    assert first.opened == second.opened
    assert len(upstream.connections) == 1


async def test_gates_let_one_token_through_at_a_time(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    gates, deltas = [Signal(), Signal()], ["one", "two"]
    upstream.script(stream_headers(), gated(gates, deltas), finish(), done())
    async with await ask(client) as stream:
        for opening, delta in zip(gates, deltas, strict=True):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.wait([waiting], timeout=0.05)
            assert not waiting.done()
            opening.set()
            assert text([await waiting]) == delta


async def test_asyncio_event_is_a_gate_too(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    opening = asyncio.Event()
    upstream.script(gate(opening), answer("late"))
    received = asyncio.ensure_future(chunks(client))
    await upstream.request(0)
    opening.set()
    assert text(await received) == "late"


async def test_openai_client_joins_bytes_that_were_split_inside_characters(
    upstream: Upstream, client: openai.AsyncOpenAI
) -> None:
    upstream.script(stream_headers(), pieces(events.content_event(EMOJI), 3), finish(), done())
    assert text(await chunks(client)) == EMOJI


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_refusal_is_what_openai_would_send(
    upstream: Upstream, client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    upstream.script(refusal(status, "some_code", {"Retry-After": "7"}))
    with pytest.raises(error) as caught:
        await chunks(client)
    assert caught.value.code == "some_code"
    assert caught.value.response.headers["Retry-After"] == "7"


async def test_error_object_in_mid_stream_is_an_api_error(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    upstream.script(stream_headers(), empty_choices(), chunk("Half"), error_object("Broken"))
    async with await ask(client) as stream:
        assert not (await anext(stream)).choices
        assert text([await anext(stream)]) == "Half"
        with pytest.raises(openai.APIError, match="Broken"):
            await anext(stream)


async def test_answer_without_ending_is_a_clean_end_of_body(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    upstream.script(answer("Half", usage=None, finish=None, done=False))
    received = await chunks(client)
    assert text(received) == "Half"
    assert all(one.choices[0].finish_reason is None for one in received)


async def test_cancelled_openai_stream_closes_the_connection(upstream: Upstream, client: openai.AsyncOpenAI) -> None:
    upstream.script(stream_headers(), chunk("a"), silence())
    stream = await ask(client)
    await anext(stream)
    await stream.close()
    await (await upstream.request(0)).closed.within()


async def test_failing_step_fails_the_test() -> None:
    async def broken(_connection: object) -> None:
        raise LookupError("a script's own error")

    async def run() -> None:
        async with Upstream() as upstream:
            upstream.script(broken)
            async with openai.AsyncOpenAI(api_key="k", base_url=upstream.base_url, max_retries=0) as client:
                with pytest.raises(openai.APIConnectionError):
                    await ask(client)

    with pytest.raises(LookupError):
        await run()


def test_script_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="step"):
        Upstream().script()


def test_signal_that_nobody_sets_times_out() -> None:
    with pytest.raises(TimeoutError):
        Signal().block(0.01)

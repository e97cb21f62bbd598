"""Asks OpenAI, or any server that speaks its Chat Completions wire. The only file that imports `openai`.

The SDK makes the request (addresses, credentials, TLS, errors); the body is built and the stream is read by
`openai_wire`. One more try is made while nothing of the answer has been read, none after: the reader already has
text then, and a second answer would not continue it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient
from openai.types.chat import ChatCompletionChunk

from engine_grpc.errors import EngineError, Reason
from engine_grpc.event_stream import EventStreamDecoder, EventTooLargeError
from engine_grpc.model import Delta, Done, ModelEvent
from engine_grpc.openai_wire import DONE, TextJoiner, parse_chunk, request_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine_grpc.model import FinishReason, Prompt, Usage

CONNECT_TIMEOUT_SECONDS = 10
RETRY_AFTER_LIMIT_SECONDS = 5
"""A provider that asks for a longer pause gets no second try: the student is told to wait instead."""
_RETRY_DELAY_SECONDS = 0.5
_DRAIN_SECONDS = 0.1
_TRY_AGAIN = {Reason.UPSTREAM_RATE_LIMITED, Reason.UPSTREAM_UNAVAILABLE, Reason.UPSTREAM_TRUNCATED}
_BROKEN_CONNECTION = (httpx2.RequestError, aiohttp.ClientError, OSError)


# Identity: a compressed stream saves nothing between servers, and can be a bomb.
_HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """How to ask."""

    model: str
    api_key: str
    base_url: str | None = None
    """None: OpenAI itself."""
    max_completion_tokens: int = 2000
    reasoning_effort: str | None = None
    image_detail: str = "high"
    safety_identifier_key: bytes | None = None
    """Keys the hash of student ids; None: none is sent."""
    usage_grace: float = 2
    """Seconds to wait for the usage report after the finish reason: the answer is whole, only its price is missing."""
    max_connections: int = 1000


class OpenAIModel:
    """A `ChatModel` on the Chat Completions API. Close it after use."""

    def __init__(self, options: OpenAIOptions) -> None:
        self.name = options.model
        self._options = options
        # No redirects: a key must not follow one to another host. No read time-out: the tutor's deadlines rule.
        http_client = DefaultAioHttpClient(
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=options.max_connections),
        )
        self._client = AsyncOpenAI(
            api_key=options.api_key,
            base_url=options.base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS),
            http_client=http_client,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Yields the answer; see `ChatModel.stream`."""
        body = request_body(prompt, self._options.image_detail, self.body_options(prompt.student_id))
        answered = False
        for last_try in (False, True):
            try:
                async with aclosing(self._attempt(body)) as events:
                    async for event in events:
                        answered = True
                        yield event
            except EngineError as error:
                if last_try or answered or not _worth_another_try(error):
                    raise
                await asyncio.sleep(_pause(error))
            else:
                return

    def body_options(self, student_id: str) -> dict[str, object]:
        """Returns the request's fields beside the messages."""
        options: dict[str, object] = {
            "model": self.name,
            "max_completion_tokens": self._options.max_completion_tokens,
        }
        if self._options.reasoning_effort:
            options["reasoning_effort"] = self._options.reasoning_effort
        key = self._options.safety_identifier_key
        # "anonymous" is everybody: an identifier of it would make one student's misuse all students'.
        if key and student_id != "anonymous":
            options["safety_identifier"] = hmac.new(key, student_id.encode(), hashlib.sha256).hexdigest()
        return options

    async def _attempt(self, body: bytes) -> AsyncGenerator[ModelEvent, None]:
        """Asks once, and turns the body of the reply into events.

        What one read of the socket brought becomes one delta: no time is lost, and a fast model costs few wake-ups.
        """
        response = await self._post(body)
        answer = _Answer()
        try:
            _require_stream(response)
            async with aclosing(response.aiter_bytes()) as pieces:
                while not answer.over:
                    if text := answer.feed(await _next(pieces)):
                        yield Delta(text)
                if text := await _rest(answer, pieces, self._options.usage_grace):
                    yield Delta(text)
                yield answer.done()
                await _drain(pieces)
        finally:
            await response.aclose()

    async def _post(self, body: bytes) -> httpx2.Response:
        try:
            stream = await self._client.post(
                "/chat/completions",
                content=body,
                cast_to=ChatCompletionChunk,
                options={"headers": _HEADERS},
                stream=True,
                stream_cls=AsyncStream[ChatCompletionChunk],
            )
        except openai.APIStatusError as error:
            raise _refused(error) from None
        except (openai.APIConnectionError, *_BROKEN_CONNECTION):
            raise EngineError(Reason.UPSTREAM_UNAVAILABLE) from None
        return stream.response


def _require_stream(response: httpx2.Response) -> None:
    """Refuses a page or a whole JSON reply where a stream was asked for; a missing media type is let through."""
    if response.headers.get("content-type", "").startswith(("text/html", "application/json")):
        raise EngineError(Reason.UPSTREAM_PROTOCOL)


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    """The next piece of the body; None when it ended or broke off."""
    try:
        return await anext(pieces, None)
    except _BROKEN_CONNECTION:
        return None


async def _rest(answer: _Answer, pieces: AsyncGenerator[bytes, None], grace: float) -> str:
    """Reads on for the usage report, once the model has named its finish reason; returns late text, if any."""
    texts = []
    with suppress(TimeoutError):
        async with asyncio.timeout(grace):
            while not answer.complete:
                texts.append(answer.feed(await _next(pieces)))
    return "".join(texts)


async def _drain(pieces: AsyncGenerator[bytes, None]) -> None:
    """Reads the body to its end, if that comes at once, so that the connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await _next(pieces) is not None:
                pass


class _Answer:
    """What has been read of one answer."""

    def __init__(self) -> None:
        self.complete = False
        """Nothing more is to come: [DONE], the end of the body, or a fault."""
        self._finish_reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._failure: EngineError | None = None
        self._decoder = EventStreamDecoder()
        self._joiner = TextJoiner()

    @property
    def over(self) -> bool:
        """The model has said its last word, or it never will."""
        return self.complete or self._finish_reason is not None

    def feed(self, piece: bytes | None) -> str:
        """Returns the text in a piece of the body; None is its end. A fault waits for `done`: text before it counts."""
        texts: list[str] = []
        try:
            if piece is None:
                self.complete = True
            else:
                for data in self._decoder.feed(piece):
                    texts.append(self._event(data))  # noqa: PERF401 - what came before a fault must stay
        except EngineError as error:
            self._failure, self.complete = error, True
        except EventTooLargeError:
            self._failure, self.complete = EngineError(Reason.UPSTREAM_PROTOCOL), True
        if self.complete:
            texts.append(self._joiner.flush())
        return "".join(texts)

    def _event(self, data: bytes) -> str:
        if self.complete or data.strip() == DONE:
            self.complete = True
            return ""
        chunk = parse_chunk(data)
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        return self._joiner.add(chunk.text)

    def done(self) -> Done:
        """The end.

        Raises:
            EngineError: There was none: the body was faulty, or broke off.
        """
        if self._finish_reason:
            return Done(self._finish_reason, self._usage)
        raise self._failure or EngineError(Reason.UPSTREAM_TRUNCATED)


def _refused(error: openai.APIStatusError) -> EngineError:
    """What an HTTP status of the provider means to the student."""
    match error.status_code:
        case 401 | 403:
            return EngineError(Reason.UPSTREAM_AUTH)
        case 429:
            return EngineError(Reason.UPSTREAM_RATE_LIMITED, retry_after=_retry_after(error.response.headers))
        case 408 | 409:
            return EngineError(Reason.UPSTREAM_UNAVAILABLE)
        case status if status >= 500:
            return EngineError(Reason.UPSTREAM_UNAVAILABLE, retry_after=_retry_after(error.response.headers))
        case status if status >= 400:
            return EngineError(Reason.UPSTREAM_REJECTED)
    return EngineError(Reason.UPSTREAM_PROTOCOL)


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds of the Retry-After header (RFC 9110, 10.2.3); its date form is not used by model providers."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 6 else None


def _worth_another_try(error: EngineError) -> bool:
    return error.reason in _TRY_AGAIN and (error.retry_after or 0) <= RETRY_AFTER_LIMIT_SECONDS


def _pause(error: EngineError) -> float:
    """Seconds before the second try: what the provider asked for, or about half a second."""
    if error.reason is Reason.UPSTREAM_RATE_LIMITED:
        return error.retry_after or _RETRY_DELAY_SECONDS
    return _RETRY_DELAY_SECONDS * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing

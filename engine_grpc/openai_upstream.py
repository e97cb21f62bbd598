"""One server that speaks OpenAI's Chat Completions wire, and how it is spared.

Requests are sent by `openai_transport`; their body is built by `openai_wire` and the stream is read by `openai_reply`.
Everything that may be tried again happens before the first event: the reader has text after it, and a
second answer would not continue it. So what is returned here has begun, and the request's body is gone by then.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import re
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

# The official SDK says where and as whom a server is asked; see `openai_transport` for why it does not ask.
from openai import AsyncOpenAI

from engine_grpc import metrics, tracing
from engine_grpc.errors import EngineError, Reason
from engine_grpc.model_servers import OPENAI_URL
from engine_grpc.openai_reply import Reply, drain
from engine_grpc.openai_transport import BROKEN_CONNECTION, Body, Transport
from engine_grpc.openai_wire import request_body
from engine_grpc.resilience import CircuitBreaker, CircuitOpenError, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp
    from opentelemetry.trace import Span

    from engine_grpc.model import Prompt

_RETRY_DELAY_SECONDS = 0.25
_JITTER_SECONDS = 0.5
_TRY_AGAIN = {Reason.UPSTREAM_RATE_LIMITED, Reason.UPSTREAM_UNAVAILABLE, Reason.UPSTREAM_TRUNCATED}
_DEAD = {Reason.UPSTREAM_UNAVAILABLE, Reason.UPSTREAM_TRUNCATED, Reason.UPSTREAM_TIMEOUT}
"""Failures that count against a server. Any other refusal shows that it works."""
_SECONDS = re.compile(r"\d{1,5}(\.\d{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """How to ask."""

    model: str
    api_key: str
    base_url: str | None
    """None: OpenAI itself."""
    max_completion_tokens: int
    reasoning_effort: str | None
    """None: none is asked for."""
    image_detail: str
    safety_identifier_key: bytes | None
    """Keys the hash of student ids; None: none is sent."""
    usage_grace: float
    """Seconds to wait for the usage report after the finish reason: the answer is whole, only its price is missing."""
    max_connections: int
    direct: bool
    """Whether to ignore the proxy that the environment names: the server is part of this engine."""


class Upstream:
    """A model at a server. Close it after use.

    Args:
        options: How to ask.
        name: In the log and in metrics: no host, no model.
        longest_pause: Seconds. A server that asks for a longer pause gets no second try.
    """

    def __init__(self, options: OpenAIOptions, name: str, longest_pause: float) -> None:
        self.model = options.model
        self._options = options
        self._name = name
        self._longest_pause = longest_pause
        self._budget = RetryBudget()
        self._breaker = CircuitBreaker(name, monotonic)
        self._client = AsyncOpenAI(api_key=options.api_key, base_url=options.base_url or OPENAI_URL)
        self._transport = Transport(self._client, options.max_connections, direct=options.direct)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()
        await self._client.close()

    async def begin(self, prompt: Prompt, by: float) -> Reply:
        """Asks, once more where that may help, and returns the answer from its first event on.

        Args:
            prompt: What to ask.
            by: The loop's time by which the first event must be there.

        Raises:
            EngineError: With one of the UPSTREAM reasons.
        """
        if self._breaker.closed:
            self._budget.deposit()
        try:
            return await self._attempt(prompt, by)
        except EngineError as error:
            if not self._may_try_again(error, by):
                raise
            pause = _pause(error)
        await asyncio.sleep(pause + random.uniform(0, _JITTER_SECONDS))  # noqa: S311 - spreads load, hides nothing
        return await self._attempt(prompt, by)

    def body_options(self, student_id: str) -> dict[str, object]:
        """Returns the request's fields beside the messages."""
        options: dict[str, object] = {
            "model": self.model,
            "max_completion_tokens": self._options.max_completion_tokens,
        }
        if self._options.reasoning_effort:
            options["reasoning_effort"] = self._options.reasoning_effort
        key = self._options.safety_identifier_key
        # "anonymous" is everybody: an identifier of it would make one student's misuse all students'.
        if key and student_id != "anonymous":
            options["safety_identifier"] = hmac.new(key, student_id.encode(), hashlib.sha256).hexdigest()
        return options

    def _may_try_again(self, error: EngineError, by: float) -> bool:
        """Whether a second try is worth its price; if so, it is paid."""
        pause = _pause(error)
        in_time = asyncio.get_running_loop().time() + pause + _JITTER_SECONDS < by
        possible = error.reason in _TRY_AGAIN and pause <= self._longest_pause and in_time
        return possible and self._breaker.closed and self._budget.spend()

    async def _attempt(self, prompt: Prompt, by: float) -> Reply:
        """Asks once, if the server is asked at all, and notes what that tells about it."""
        try:
            with self._breaker.attempt() as attempt:
                try:
                    reply = await self._first_event(prompt, by)
                except EngineError as error:
                    metrics.ATTEMPTS.labels(self._name, str(error.reason)).inc()
                    if error.reason in _DEAD:
                        self._breaker.failed(attempt)
                    else:
                        self._breaker.succeeded()
                    raise
                metrics.ATTEMPTS.labels(self._name, "OK").inc()
                self._breaker.succeeded()
                return reply
        except CircuitOpenError as error:
            raise EngineError(Reason.UPSTREAM_UNAVAILABLE, retry_after=error.retry_after) from None

    async def _first_event(self, prompt: Prompt, by: float) -> Reply:
        # A deadline of our own: who is only cancelled cannot tell a silent server from a caller that has left.
        with tracing.asking(self.model, self._options.max_completion_tokens) as span:
            try:
                async with asyncio.timeout_at(by):
                    return await self._begun(prompt, span)
            except TimeoutError:
                raise EngineError(Reason.UPSTREAM_TIMEOUT) from None

    async def _begun(self, prompt: Prompt, span: Span) -> Reply:
        body = await self._post(prompt, tracing.headers(span))
        with ExitStack() as unbegun:
            unbegun.callback(body.close)
            reply = Reply(body, self.model, self._options.usage_grace, span)
            await reply.begin()
            unbegun.pop_all()
            return reply

    async def _post(self, prompt: Prompt, headers: dict[str, str]) -> Body:
        content = request_body(prompt, self._options.image_detail, self.body_options(prompt.student_id))
        try:
            response = await self._transport.post(content, headers)
        except BROKEN_CONNECTION:
            raise EngineError(Reason.UPSTREAM_UNAVAILABLE) from None
        body = Body(response)
        if response.status == HTTPStatus.OK and _is_stream(response.headers):
            body.forget_head()
            return body
        # Not read but for a little: it may be of any size, and a bomb.
        with closing(body):
            await drain(body)
        raise _refusal(response)


class _PauseAskedError(EngineError):
    """A failure for which a server asks for a pause, in seconds, before another try; None where it asks for none."""

    def __init__(self, reason: Reason, pause: float | None) -> None:
        super().__init__(reason, retry_after=pause)
        self.pause = pause or 0.0


def _refusal(response: aiohttp.ClientResponse) -> EngineError:
    match response.status:
        case 401 | 403:
            return EngineError(Reason.UPSTREAM_AUTH)
        case 429:
            return _PauseAskedError(Reason.UPSTREAM_RATE_LIMITED, _retry_after(response.headers))
        case 408 | 409:
            return EngineError(Reason.UPSTREAM_UNAVAILABLE)
        case status if status >= 500:
            return _PauseAskedError(Reason.UPSTREAM_UNAVAILABLE, _retry_after(response.headers))
        case status if status >= 400:
            return EngineError(Reason.UPSTREAM_REJECTED)
    return EngineError(Reason.UPSTREAM_PROTOCOL)


def _is_stream(headers: Mapping[str, str]) -> bool:
    """Whether a reply can be an event stream: no page, no whole JSON reply, not compressed; its type may be missing."""
    plain = headers.get("content-encoding", "").strip().lower() in ("", "identity")
    return plain and not headers.get("content-type", "").strip().lower().startswith(("text/html", "application/json"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of the Retry-After header (RFC 9110, 10.2.3); its date form is not used by model providers."""
    value = headers.get("retry-after", "")
    return float(value) if _SECONDS.fullmatch(value) else None


def _pause(error: EngineError) -> float:
    """Seconds to wait before a second try, at least: what the server asks for, and never none at all."""
    return max(error.pause if isinstance(error, _PauseAskedError) else 0, _RETRY_DELAY_SECONDS)

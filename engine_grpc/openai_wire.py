"""OpenAI's Chat Completions wire, as plain data: the request's body out, the stream's chunks in. Pure.

The chunks are read here and not by the SDK, because servers that call themselves compatible send everything: empty
choices, no usage, error objects in the middle, halves of a surrogate pair. Source: OpenAI API reference, "Create chat
completion" and "The chat completion chunk object".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pybase64
from msgspec.structs import astuple

from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import FinishReason, Usage

if TYPE_CHECKING:
    from engine_grpc.model import Prompt

DONE = b"[DONE]"
_MAX_COUNT = 2**31
"""Of tokens: fits the contract's uint32, its sum with another included."""
_Count = Annotated[int, msgspec.Meta(ge=0, lt=_MAX_COUNT)]
_BROKEN_OFF = ("abort", "error")
"""vLLM's and SGLang's word for an answer they gave up, and OpenRouter's."""


def request_body(prompt: Prompt, image_detail: str, options: dict[str, object]) -> bytes:
    """Returns the JSON body that asks for `prompt` as a stream; `options` are added as they are.

    The picture goes in as it is: megabytes of base64, which needs no escaping.
    """
    mime, picture = prompt.picture.mime.encode(), pybase64.b64encode(prompt.picture.data)
    image_url = {"url": msgspec.Raw(b'"data:%b;base64,%b"' % (mime, picture)), "detail": image_detail}
    parts: list[dict[str, object]] = [{"type": "text", "text": text} for text in prompt.texts]
    parts.append({"type": "image_url", "image_url": image_url})
    messages: list[dict[str, object]] = [{"role": "system", "content": prompt.system}]
    for turn in prompt.turns:
        messages.append({"role": "user", "content": turn.question})
        messages.append({"role": "assistant", "content": turn.answer})
    messages.append({"role": "user", "content": parts})
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({**options, **stream, "messages": messages})


class Chunk(msgspec.Struct, gc=False):
    """What one event of the stream says."""

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count


class _Documented(msgspec.Struct, gc=False):
    """A chunk as OpenAI documents it; an error object is none."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: None = None


_decode = msgspec.json.Decoder(_Documented).decode


def parse_chunk(data: bytes) -> Chunk:
    """Returns what an event says: of a documented chunk at once, of any other with patience, at nine times the price.

    Raises:
        EngineError: UPSTREAM_PROTOCOL when it cannot be understood; another UPSTREAM reason when it is an error object.
    """
    try:
        message = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _parse_patiently(data)
    chunk = Chunk()
    if message.usage:
        chunk.usage = Usage(*astuple(message.usage))
    for choice in message.choices or ():
        if choice.index:
            continue
        chunk.finish_reason = _finish_reason(choice.finish_reason)
        if choice.delta:
            chunk.text = choice.delta.content or choice.delta.refusal or ""
        break
    return chunk


def _parse_patiently(data: bytes) -> Chunk:
    try:
        # Decoded by hand: json.loads guesses at UTF-16 and tolerates what is not UTF-8.
        message = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise EngineError(Reason.UPSTREAM_PROTOCOL) from None
    if not isinstance(message, dict):
        raise EngineError(Reason.UPSTREAM_PROTOCOL)
    if message.get("error"):
        raise EngineError(_error_reason(message["error"]))
    chunk = Chunk(usage=_usage(message.get("usage")))
    choice = _first_choice(message.get("choices"))
    chunk.text = _text(choice.get("delta"))
    chunk.finish_reason = _finish_reason(choice.get("finish_reason"))
    return chunk


def _first_choice(choices: Any) -> dict[str, Any]:
    """The choice that is the answer: the one numbered 0, or without a number."""
    found = (one for one in choices if isinstance(one, dict)) if isinstance(choices, list) else ()
    return next((one for one in found if not one.get("index")), {})


def _text(delta: Any) -> str:
    """The delta's text; a refusal is what the model says, so it is text too."""
    if not isinstance(delta, dict):
        return ""
    text = delta.get("content") or delta.get("refusal") or ""
    if not isinstance(text, str):
        raise EngineError(Reason.UPSTREAM_PROTOCOL)
    return text


def _finish_reason(value: Any) -> FinishReason | None:
    """Why the model stopped. Some servers have a reason of their own for an answer that they broke off."""
    if not value:
        return None
    if value in _BROKEN_OFF:
        raise EngineError(Reason.UPSTREAM_TRUNCATED)
    known = {"length": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}
    return known.get(str(value), FinishReason.STOP)


def _usage(value: Any) -> Usage | None:
    """The usage report, or None where it is missing or makes no sense."""
    if not isinstance(value, dict):
        return None
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = _count(value.get("total_tokens"))
    return Usage(prompt, completion, prompt + completion if total is None else total)


def _count(value: Any) -> int | None:
    """`value` if it is a count of tokens."""
    return value if type(value) is int and 0 <= value < _MAX_COUNT else None


def _error_reason(error: Any) -> Reason:
    """What an error object in the stream means; providers name it by `code` or by `type`."""
    names = {str(error.get(key)) for key in ("code", "type", "status")} if isinstance(error, dict) else set()
    if names & {"rate_limit_exceeded", "rate_limit_error", "429", "insufficient_quota"}:
        return Reason.UPSTREAM_RATE_LIMITED
    if names & {"invalid_api_key", "authentication_error", "permission_error", "401", "403"}:
        return Reason.UPSTREAM_AUTH
    if names & {"invalid_request_error", "content_policy_violation", "content_filter", "400", "422"}:
        return Reason.UPSTREAM_REJECTED
    return Reason.UPSTREAM_UNAVAILABLE


class TextJoiner:
    """Keeps text valid Unicode: joins a surrogate pair whose halves came in two chunks, replaces a lone half."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def add(self, text: str) -> str:
        """Returns the text that is ready, the half kept from before first."""
        if not self._half and text.isascii():
            return text
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _scalar(text)

    def flush(self) -> str:
        """Returns what is left at the end: a replacement character for a half that never met its other."""
        half, self._half = self._half, ""
        return _scalar(half)


def _scalar(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

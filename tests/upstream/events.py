"""The bytes of a streamed chat completion, event by event, as OpenAI sends them (UTF-8, compact JSON)."""

from __future__ import annotations

import json

MODEL = "gpt-5.4-mini"
DONE = b"data: [DONE]\n\n"
_CHUNK = {
    "id": "chatcmpl-Cq7rT2wYkLm0",
    "object": "chat.completion.chunk",
    "created": 1_790_000_000,
    "model": MODEL,
    "service_tier": "default",
    "system_fingerprint": None,
}


def event_bytes(data: object, event: str | None = None) -> bytes:
    """One SSE event; `data` becomes JSON on one line unless it is text already."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {text}\n\n".encode()


def delta_event(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
    return choices_event(choice(delta, finish_reason))


def choice(delta: dict[str, object], finish_reason: str | None = None, index: int = 0) -> dict[str, object]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def choices_event(*choices: object) -> bytes:
    return event_bytes({**_CHUNK, "choices": choices, "usage": None, "obfuscation": "q3Zx"})


def role_event() -> bytes:
    return delta_event({"role": "assistant", "content": "", "refusal": None})


def content_event(content: str) -> bytes:
    return delta_event({"content": content})


def finish_event(reason: str = "stop") -> bytes:
    return delta_event({}, reason)


def usage_event(prompt: int, completion: int) -> bytes:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return event_bytes({**_CHUNK, "choices": [], "usage": usage})


def empty_choices_event() -> bytes:
    return event_bytes({**_CHUNK, "choices": [], "usage": None})


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, object]:
    """OpenAI's error object: the body of a refusal, and an event's data when a stream fails."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error_event(message: str = "The server had an error", kind: str = "server_error") -> bytes:
    return event_bytes(error_body(message, kind))

"""What OpenAPI shows: one answer, as it reads in each of its forms."""

from __future__ import annotations

import json
from typing import Any

_USAGE = {"prompt_tokens": 48, "completion_tokens": 2, "total_tokens": 50}
_ANSWER_ID = "0f4c9a6be1d24c0f9a3b7d5e8c1f2a6b"

START: dict[str, Any] = {
    "type": "start",
    "timestamp": "2025-10-07T10:30:00.123Z",
    "model": "gpt-5.4-mini",
    "answer_id": _ANSWER_ID,
    "session_id": "chat-7",
}
CONTENT: list[dict[str, Any]] = [
    {"type": "content", "content": "This", "delta": "This"},
    {"type": "content", "content": "This is", "delta": " is"},
]
END: dict[str, Any] = {
    "type": "end",
    "tokens": 50,
    "finish_reason": "stop",
    "processing_time_ms": 2500,
    "content": "This is",
    "usage": _USAGE,
}
ERROR: dict[str, Any] = {
    "type": "error",
    "error": "The AI service is busy. Please try again.",
    "code": "UPSTREAM_RATE_LIMITED",
    "retryable": True,
    "retry_after_ms": 2000,
    "partial": True,
    "fallback_endpoint": "/api/ai/chat-image",
    "request_id": "5f0c1e9a",
}
REPLY: dict[str, Any] = {
    "success": True,
    "response": "This is",
    "processing_time_ms": 2500,
    "tokens_used": 50,
    "image_analyzed": True,
    "error": None,
    "model": "gpt-5.4-mini",
    "finish_reason": "stop",
    "answer_id": _ANSWER_ID,
    "usage": _USAGE,
}
IN_PROGRESS: dict[str, Any] = {"answer_id": _ANSWER_ID, "status": "in_progress"}


def stream() -> str:
    """Returns the whole stream as it reads on the wire."""
    lines = [json.dumps(event, separators=(",", ":")) for event in (START, *CONTENT, END)]
    return "".join(f"id: {number}\ndata: {line}\n\n" for number, line in enumerate(lines))

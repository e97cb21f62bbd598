"""What OpenAPI says beyond what FastAPI finds in the code: the request body, the events of a stream, the errors.

OpenAPI 3.2 describes a stream by the schema of its items (`itemSchema`, section 4.14.4).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from sse_gateway import examples
from sse_gateway.errors import RULES, ErrorCode
from sse_gateway.headers import IDEMPOTENCY_KEY, REQUEST_TIMEOUT_MS
from sse_gateway.schemas import (
    AnswerEvent,
    AnswerInProgress,
    AnswerReply,
    ContentEvent,
    EndEvent,
    ErrorEvent,
    ErrorReply,
    QuestionBody,
    StartEvent,
)

TITLE = "StudyAI chat"
DESCRIPTION = """
Send the photo of a page and a question about it; the answer comes **as it is written**, as server-sent events, or in
one reply from the fallback.

```
curl -N http://localhost:3000/api/ai/chat-image-stream -H 'Content-Type: application/json' -d @examples/ask.json
```

### Reading the stream
Every event is one `data:` line of JSON; its `type` says what it is:

| `type` | when | what to do |
|---|---|---|
| `start` | once, first | the question is accepted |
| `content` | any number of times | append `delta`, or show `content`, the whole text so far |
| `end` | once, last | done: `content` is the whole answer |
| `error` | last, instead of `end` | branch on `code`; if `retryable`, ask again, or ask the fallback |

Lines that begin with `:` keep an idle connection open: skip them. A failure before `start` is an HTTP status with a
JSON body that has the same `code`. Every response names its request in `X-Request-Id`: yours, if you sent one.

### When the connection breaks
A stream that closes without `end` or `error` was cut. Send an `Idempotency-Key` with each question, and you can come
back: resume the stream at `/api/ai/answers/{answer_id}` with the last `id` as `Last-Event-ID`, or ask again with the
same key, on either route. Neither asks the model twice. Without a key, closing the connection stops the answer.

### Who asks
Where the service asks for tokens, send `Authorization: Bearer …` with every request to `/api/`, and leave `student_id`
out: it is the token's `sub`. Where it limits how often a student may ask, `RateLimit` says what is left.
"""

TAGS = [
    {"name": "chat", "description": "Questions about a page, and their answers."},
    {"name": "answers", "description": "Answers that outlive the connection: resume, replay, fetch, stop."},
    {"name": "health", "description": "For load balancers and orchestrators."},
]

_REF = "#/components/schemas/{model}"
_TOKEN_CODES = [ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.AUTH_UNAVAILABLE]
"""What becomes of a bad token, where tokens are asked for."""
_ANSWER_CODES = [
    ErrorCode.INVALID_REQUEST,
    ErrorCode.UPSTREAM_REJECTED,
    ErrorCode.INTERNAL,
    ErrorCode.UPSTREAM_TRUNCATED,
    ErrorCode.UPSTREAM_PROTOCOL,
    ErrorCode.OVERLOADED,
    ErrorCode.DRAINING,
    ErrorCode.ENGINE_UNAVAILABLE,
    ErrorCode.UPSTREAM_RATE_LIMITED,
    ErrorCode.UPSTREAM_UNAVAILABLE,
    ErrorCode.UPSTREAM_AUTH,
    ErrorCode.UPSTREAM_TIMEOUT,
    ErrorCode.DEADLINE_EXCEEDED,
    *_TOKEN_CODES,
]
"""How an answer can fail, and the asking for it."""
_CHAT_CODES = [
    *_ANSWER_CODES,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.IMAGE_UNREADABLE,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.RATE_LIMITED,
]
_SECONDS = {"description": "Seconds to wait before another try.", "schema": {"type": "integer", "minimum": 1}}
_CHALLENGE = {
    "description": "How to say who asks (RFC 6750, section 3).",
    "schema": {"type": "string"},
    "example": 'Bearer realm="studyai", error="invalid_token"',
}
_LIMIT_HEADERS = {
    "RateLimit-Policy": {
        "description": "Where questions are limited: how many (`q`) a student may ask in how many seconds (`w`).",
        "schema": {"type": "string"},
        "example": '"default";q=30;w=60',
    },
    "RateLimit": {
        "description": "Where questions are limited: how many are left (`r`), and in how many seconds (`t`) there is "
        "one more. See draft-ietf-httpapi-ratelimit-headers.",
        "schema": {"type": "string"},
        "example": '"default";r=29;t=60',
    },
}


def _error_response(codes: list[ErrorCode]) -> dict[str, Any]:
    example = ErrorReply(
        success=False,
        error=RULES[codes[0]].sentence,
        code=codes[0],
        retryable=RULES[codes[0]].retryable,
        request_id="5f0c1e9a",
        response=RULES[codes[0]].student,
        processing_time_ms=4,
    )
    response: dict[str, Any] = {
        "model": ErrorReply,
        "description": "\n\n".join(f"`{code}`: {RULES[code].sentence}" for code in codes),
        "content": {"application/json": {"example": example.model_dump(exclude_unset=True)}},
    }
    headers = _error_headers(codes)
    return {**response, "headers": headers} if headers else response


def _error_headers(codes: list[ErrorCode]) -> dict[str, Any]:
    headers: dict[str, Any] = {"Retry-After": _SECONDS} if any(RULES[code].retryable for code in codes) else {}
    if ErrorCode.UNAUTHENTICATED in codes:
        headers["WWW-Authenticate"] = _CHALLENGE
    if ErrorCode.RATE_LIMITED in codes:
        headers |= _LIMIT_HEADERS
    return headers


def _status(code: ErrorCode) -> int:
    return RULES[code].status


def _error_responses(codes: list[ErrorCode]) -> dict[int | str, dict[str, Any]]:
    return {status: _error_response(list(group)) for status, group in groupby(sorted(codes, key=_status), key=_status)}


ERROR_RESPONSES = _error_responses(_CHAT_CODES)
"""FastAPI's `responses` of a chat route."""

STOP_RESPONSES = _error_responses(
    [ErrorCode.INVALID_REQUEST, ErrorCode.ANSWER_NOT_FOUND, ErrorCode.ENGINE_UNAVAILABLE, *_TOKEN_CODES]
)
"""FastAPI's `responses` of the route that stops an answer."""

_EVENT = TypeAdapter[Any](AnswerEvent).json_schema(ref_template=_REF, mode="serialization")
del _EVENT["$defs"]

STREAM_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": _LIMIT_HEADERS,
        "description": "The answer as it is written: one `start`, any number of `content`, one `end` or `error`. "
        "Compressed as `Accept-Encoding` asks (zstd, br, gzip), each write by itself.",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "properties": {
                        "id": {
                            "type": "string",
                            "pattern": "^[0-9]+$",
                            "description": "The event's number in this answer: rises, may skip. An `error` has none.",
                        },
                        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": _EVENT},
                    },
                    "required": ["data"],
                },
                "example": examples.stream(),
            }
        },
    }
}
"""FastAPI's `responses` of a route that streams."""

REPLY_RESPONSE: dict[int | str, dict[str, Any]] = {200: {"headers": _LIMIT_HEADERS}}
"""FastAPI's `responses` of a route that answers in one reply."""

ANSWER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer: as a stream where `text/event-stream` is accepted, else in one reply.",
        "content": {
            "application/json": {
                "schema": {"$ref": _REF.format(model=AnswerReply.__name__)},
                "example": examples.REPLY,
            },
            **STREAM_RESPONSE[200]["content"],
        },
    },
    202: {
        "description": "It is still being written: come back after `Retry-After` seconds, or accept the stream.",
        "content": {
            "application/json": {
                "schema": {"$ref": _REF.format(model=AnswerInProgress.__name__)},
                "example": examples.IN_PROGRESS,
            }
        },
        "headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}},
    },
    204: {"description": "There is nothing after `Last-Event-ID`: it was the last event. Ends an `EventSource`."},
    **_error_responses([*_ANSWER_CODES, ErrorCode.ANSWER_NOT_FOUND]),
}
"""FastAPI's `responses` of the route that resumes, replays or fetches an answer."""

QUESTION: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY.parameter, REQUEST_TIMEOUT_MS.parameter],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model=QuestionBody.__name__)}}},
    },
}
"""FastAPI's `openapi_extra` of a chat route: it does not see headers and body, which the gateway reads itself."""

ANSWER: dict[str, Any] = {"parameters": [REQUEST_TIMEOUT_MS.parameter]}
"""The same of the route that resumes, replays or fetches an answer."""


def ask_for_tokens(document: dict[str, Any]) -> None:
    """Says in an OpenAPI document that every route of the API wants a token."""
    document["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token whose `sub` is the student.",
        }
    }
    for path, operations in document["paths"].items():
        if path.startswith("/api/"):
            for operation in operations.values():
                operation["security"] = [{"token": []}]


def own_schemas() -> dict[str, Any]:
    """Returns the schemas that FastAPI does not know, and those whose examples it spoils by leaving `null` out."""
    sent: list[Any] = [
        (model, "serialization")
        for model in (StartEvent, ContentEvent, EndEvent, ErrorEvent, AnswerReply, AnswerInProgress)
    ]
    _, schemas = models_json_schema([*sent, (QuestionBody, "validation")], ref_template=_REF)
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions

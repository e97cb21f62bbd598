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
from sse_gateway.schemas import (
    AnswerEvent,
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

Lines that begin with `:` keep an idle connection open: skip them. A stream that closes without `end` or `error` was
cut. A failure before `start` is an HTTP status with a JSON body that has the same `code`. Close the connection to stop
the answer. Every response names its request in `X-Request-Id`: yours, if you sent one.
"""

TAGS = [
    {"name": "chat", "description": "Questions about a page, and their answers."},
    {"name": "health", "description": "For load balancers and orchestrators."},
]

_REF = "#/components/schemas/{model}"
_ROUTES_CODES = [
    ErrorCode.INVALID_REQUEST,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.IMAGE_UNREADABLE,
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
]
"""What the chat routes can answer."""


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
    if any(RULES[code].retry_after_ms for code in codes):
        seconds = {"description": "Seconds to wait before another try.", "schema": {"type": "integer", "minimum": 1}}
        response["headers"] = {"Retry-After": seconds}
    return response


def _status(code: ErrorCode) -> int:
    return RULES[code].status


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: _error_response(list(codes)) for status, codes in groupby(sorted(_ROUTES_CODES, key=_status), key=_status)
}
"""FastAPI's `responses` of a chat route."""


_EVENT = TypeAdapter[Any](AnswerEvent).json_schema(ref_template=_REF, mode="serialization")
del _EVENT["$defs"]

STREAM_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer as it is written: one `start`, any number of `content`, one `end` or `error`.",
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

QUESTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model=QuestionBody.__name__)}}},
    }
}
"""FastAPI's `openapi_extra` of a chat route: it does not see the body, which the gateway reads itself."""


def own_schemas() -> dict[str, Any]:
    """Returns the schemas that FastAPI does not know, and those whose examples it spoils by leaving `null` out."""
    sent: list[Any] = [
        (model, "serialization") for model in (StartEvent, ContentEvent, EndEvent, ErrorEvent, AnswerReply)
    ]
    _, schemas = models_json_schema([*sent, (QuestionBody, "validation")], ref_template=_REF)
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions

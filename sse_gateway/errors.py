"""Every failure that a client can be told, in one table.

A failure is raised as `GatewayError(ErrorCode.…)` wherever it is noticed, and told in one of two ways: as an HTTP
status with a JSON body until the stream has begun (`error_response`), as the stream's last event after that
(`error_event`). Sentences are fixed, so that no exception text, host, key or student's word can slip into one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from sse_gateway.schemas import ErrorEvent, ErrorReply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sse_gateway.record import RequestRecord


class ErrorCode(StrEnum):
    """The stable code of a failure: `code` for the client, `google.rpc.ErrorInfo.reason` from the engine."""

    INVALID_REQUEST = "INVALID_REQUEST"
    IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    ANSWER_NOT_FOUND = "ANSWER_NOT_FOUND"
    RATE_LIMITED = "RATE_LIMITED"
    AUTH_UNAVAILABLE = "AUTH_UNAVAILABLE"
    OVERLOADED = "OVERLOADED"
    DRAINING = "DRAINING"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    UPSTREAM_RATE_LIMITED = "UPSTREAM_RATE_LIMITED"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    UPSTREAM_AUTH = "UPSTREAM_AUTH"
    UPSTREAM_REJECTED = "UPSTREAM_REJECTED"
    UPSTREAM_TRUNCATED = "UPSTREAM_TRUNCATED"
    UPSTREAM_PROTOCOL = "UPSTREAM_PROTOCOL"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Rule:
    """How a code is told to the client."""

    status: int
    """The HTTP status."""
    sentence: str
    """`error`: for whoever builds or runs the client."""
    student: str
    """`response`: fit to be shown to a student in place of an answer."""
    retryable: bool = False
    retry_after_ms: int | None = None
    """How long to wait before another try, unless the engine says otherwise; None where waiting does not help."""


_MEBIBYTE = 1024 * 1024

_TRY_AGAIN = "Something went wrong. Please try again in a moment."
_BUSY = "I am helping many students right now. Please try again in a moment."
_LATER = "I cannot answer right now. Please try again later."
_CHANGE = "I could not understand that question. Please check it and send it again."
_PICTURE = "I could not read that picture. Please send a photo as JPEG, PNG, WebP or GIF."
_SIGN_IN = "Please sign in and try again."
_GONE = "That answer is no longer there. Please ask again."

RULES: dict[ErrorCode, Rule] = {
    ErrorCode.INVALID_REQUEST: Rule(400, "The request is not valid.", _CHANGE),
    ErrorCode.IMAGE_UNREADABLE: Rule(422, "The picture cannot be read.", _PICTURE),
    ErrorCode.PAYLOAD_TOO_LARGE: Rule(
        413, "The request is too large.", "That picture is too large. Please send a smaller one."
    ),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: Rule(422, "This Idempotency-Key belongs to another question.", _CHANGE),
    ErrorCode.UNAUTHENTICATED: Rule(401, "A valid token is required.", _SIGN_IN),
    ErrorCode.FORBIDDEN: Rule(403, "This token does not allow that.", _SIGN_IN),
    ErrorCode.ANSWER_NOT_FOUND: Rule(404, "There is no such answer.", _GONE),
    ErrorCode.RATE_LIMITED: Rule(429, "Too many requests from this student.", _BUSY, True, 1000),
    ErrorCode.AUTH_UNAVAILABLE: Rule(
        503, "Tokens cannot be checked right now. Please try again.", _TRY_AGAIN, True, 5000
    ),
    ErrorCode.OVERLOADED: Rule(503, "The service is busy. Please try again.", _BUSY, True, 1000),
    ErrorCode.DRAINING: Rule(503, "The service is restarting. Please try again.", _TRY_AGAIN, True, 1000),
    ErrorCode.ENGINE_UNAVAILABLE: Rule(
        503, "The AI engine cannot be reached. Please try again.", _TRY_AGAIN, True, 2000
    ),
    ErrorCode.UPSTREAM_RATE_LIMITED: Rule(503, "The AI service is busy. Please try again.", _BUSY, True, 2000),
    ErrorCode.UPSTREAM_UNAVAILABLE: Rule(
        503, "The AI service cannot be reached. Please try again.", _TRY_AGAIN, True, 2000
    ),
    ErrorCode.UPSTREAM_AUTH: Rule(503, "The AI service refused this service's credentials.", _LATER),
    ErrorCode.UPSTREAM_REJECTED: Rule(
        422, "The AI service declined this question.", "I cannot answer that question. Please ask another one."
    ),
    ErrorCode.UPSTREAM_TRUNCATED: Rule(502, "The AI service broke off its answer. Please try again.", _TRY_AGAIN, True),
    ErrorCode.UPSTREAM_PROTOCOL: Rule(
        502, "The AI service sent an answer that cannot be understood.", _TRY_AGAIN, True
    ),
    ErrorCode.UPSTREAM_TIMEOUT: Rule(504, "The AI service went silent. Please try again.", _TRY_AGAIN, True),
    ErrorCode.DEADLINE_EXCEEDED: Rule(504, "The answer took too long. Please try again.", _TRY_AGAIN, True),
    ErrorCode.INTERNAL: Rule(500, "Something went wrong inside the service. Please try again.", _TRY_AGAIN, True),
}


class GatewayError(Exception):
    """A failure that the client is told about.

    Args:
        code: What failed.
        sentence: A sentence that says more than the table's; never built from the client's data.
        retry_after_ms: How long to wait before another try, where the table's default is not it.
        details: More members for the JSON body.
    """

    def __init__(
        self,
        code: ErrorCode,
        sentence: str | None = None,
        *,
        retry_after_ms: int | None = None,
        details: Mapping[str, str | float] | None = None,
    ) -> None:
        rule = RULES[code]
        super().__init__(code)
        self.code = code
        self.rule = rule
        self.sentence = sentence or rule.sentence
        waiting = rule.retry_after_ms if retry_after_ms is None else retry_after_ms
        self.retry_after_ms = waiting if rule.retryable else None
        self.details = details or {}


def payload_too_large(actual_bytes: int, limit_bytes: int, what: str = "request body") -> GatewayError:
    """Returns the error for `actual_bytes`, declared or counted so far, of a body or what is in it."""
    limit, actual = limit_bytes / _MEBIBYTE, actual_bytes / _MEBIBYTE
    sentence = f"The {what} may have at most {limit:.4g} MB."
    # Rounded apart: one byte too many is not the limit.
    sizes = {"maxSizeMB": math.floor(limit * 100) / 100, "actualSizeMB": math.ceil(actual * 100) / 100}
    details: dict[str, str | float] = {"message": sentence, **sizes}
    return GatewayError(ErrorCode.PAYLOAD_TOO_LARGE, sentence, details=details)


def error_response(error: GatewayError, record: RequestRecord, *, status: int | None = None) -> JSONResponse:
    """Returns the failure as an HTTP response, and notes it as the request's outcome.

    Args:
        error: What failed.
        record: The request's.
        status: The HTTP status, where it is not the code's own.
    """
    record.outcome = error.code
    members = {
        "success": False,
        "error": error.sentence,
        "code": error.code,
        "retryable": error.rule.retryable,
        "request_id": record.request_id,
        "response": error.rule.student,
        "processing_time_ms": record.elapsed_ms,
        **_fallback(error, record),
        **error.details,
    }
    reply = ErrorReply.model_validate(members)
    headers = {}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_ms / 1000)))
    return JSONResponse(reply.model_dump(by_alias=True, exclude_unset=True), status or error.rule.status, headers)


def error_event(error: GatewayError, record: RequestRecord, *, partial: bool) -> ErrorEvent:
    """Returns the failure as a stream's last event, and notes it as the request's outcome.

    Args:
        error: What failed.
        record: The request's.
        partial: Whether some of the answer's text came before it.
    """
    record.outcome = error.code
    members = {
        "type": "error",
        "error": error.sentence,
        "code": error.code,
        "retryable": error.rule.retryable,
        "partial": partial,
        **_fallback(error, record),
        "request_id": record.request_id,
    }
    if error.retry_after_ms is not None:
        members["retry_after_ms"] = error.retry_after_ms
    return ErrorEvent.model_validate(members)


def _fallback(error: GatewayError, record: RequestRecord) -> dict[str, str]:
    """Names the fallback to a stream's client where asking there could help: a student's limits are of both routes."""
    if error.rule.retryable and record.fallback_endpoint and error.code is not ErrorCode.RATE_LIMITED:
        return {"fallback_endpoint": record.fallback_endpoint}
    return {}

"""From a failed call's status to the error that the client is told; see google/rpc/error_details.proto (AIP-193)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sse_gateway.errors import ErrorCode, GatewayError
from sse_gateway.misconfiguration import misconfiguration

if TYPE_CHECKING:
    from typing import TypeVar

    from google.protobuf.message import Message

    Detail = TypeVar("Detail", bound=Message)

log = structlog.get_logger(__name__)

_DOMAIN = "studyai"
_UNTOLD = {
    # It is this gateway that is not let in, not its client.
    grpc.StatusCode.UNAUTHENTICATED: ErrorCode.ENGINE_UNAVAILABLE,
    grpc.StatusCode.UNAVAILABLE: ErrorCode.ENGINE_UNAVAILABLE,
    # Not by us: who cancels a call is not told of it. So the engine went away under it.
    grpc.StatusCode.CANCELLED: ErrorCode.ENGINE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.DEADLINE_EXCEEDED,
}
"""What a status means that came without the engine's word for it: from gRPC itself, mostly."""
_CLIENTS_FAULT = {
    ErrorCode.INVALID_REQUEST,
    ErrorCode.IMAGE_UNREADABLE,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
}
"""Codes whose sentence is the engine's own: it knows what is wrong with the request."""
_FIELDS = {
    "question.image": "base64_image",
    "question.prompt": "prompt",
    "question.subject": "subject",
    "question.session_id": "session_id",
    "question.student_id": "student_id",
    "request_id": "Idempotency-Key",
    "boundary_sequence": "Last-Event-ID",
}
"""What a field of the proto message is called over HTTP."""


def gateway_error(error: grpc.aio.AioRpcError) -> GatewayError:
    """Returns what to tell the client. What is told as INTERNAL is logged, without the status's own words."""
    if why := misconfiguration(error):
        log.error("the engine cannot be used", why=why)
    status = _rich_status(error)
    code = _code(_detail(status, ErrorInfo()), error.code())
    if code is ErrorCode.INTERNAL:
        log.error("the engine failed", grpc_status=error.code().name)
    delay = _detail(status, RetryInfo())
    return GatewayError(
        code,
        _sentence(status) if code in _CLIENTS_FAULT else None,
        retry_after_ms=max(0, delay.retry_delay.ToMilliseconds()) if delay else None,
    )


def _rich_status(error: grpc.aio.AioRpcError) -> Status:
    try:
        return rpc_status.from_call(cast("grpc.Call", error)) or Status()
    except (ValueError, DecodeError):  # not what it claims to be
        return Status()


def _detail(status: Status, empty: Detail) -> Detail | None:
    """Returns the status's detail of this type."""
    for packed in status.details:
        with suppress(DecodeError):  # not what it claims to be
            if packed.Unpack(empty):
                return empty
    return None


def _code(info: ErrorInfo | None, status: grpc.StatusCode) -> ErrorCode:
    if info is None or info.domain != _DOMAIN or status is grpc.StatusCode.UNAUTHENTICATED:
        return _UNTOLD.get(status, ErrorCode.INTERNAL)
    try:
        return ErrorCode(info.reason)
    except ValueError:  # a newer engine's
        return ErrorCode.INTERNAL


def _sentence(status: Status) -> str:
    """Returns the engine's sentence, naming the field at fault as the client knows it."""
    sentence: str = status.message
    bad = _detail(status, BadRequest())
    if not bad or not bad.field_violations:
        return sentence
    path: str = bad.field_violations[0].field
    field = _FIELDS.get(path, path)
    sentence = sentence.replace(path, field)
    return sentence if field in sentence else f"{field}: {sentence}"

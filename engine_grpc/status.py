"""From the engine's error to the call's status, with the details of google/rpc/error_details.proto (AIP-193)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from engine_grpc.errors import EngineError

DOMAIN = "studyai"


def to_status(error: EngineError) -> grpc.Status:
    """Returns the status to end a call with: code, sentence, ErrorInfo, and RetryInfo and BadRequest where they fit."""
    code: int = grpc.StatusCode[error.status].value[0]
    return rpc_status.to_status(
        status_pb2.Status(code=code, message=error.message, details=[_packed(d) for d in _details(error)])
    )


def _details(error: EngineError) -> list[Message]:
    details: list[Message] = [ErrorInfo(domain=DOMAIN, reason=error.reason)]
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(RetryInfo(retry_delay=delay))
    if error.field is not None:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(BadRequest(field_violations=[violation]))
    return details


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed

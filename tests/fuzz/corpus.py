"""Good input for each target, and some that was found to be interesting."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.any_pb2 import Any as Detail
from google.rpc.status_pb2 import Status

from engine_grpc.errors import EngineError, Reason
from engine_grpc.status import to_status
from tests.engine import pictures
from tests.upstream import events

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def corpus(target: str) -> list[bytes]:
    """Returns the input of a target."""
    match target:
        case "reader":
            return _streams()
        case "picture":
            return list(pictures.KINDS.values())
        case "body":
            return _bodies()
        case _:
            return _statuses()


def _streams() -> list[bytes]:
    """Bodies of a model's stream; the first byte says how they are cut."""
    halves = [b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % half for half in (rb"\ud83d", rb"\ude00")]
    parts = [
        events.role_event(),
        events.content_event('Hi "\u2028 👩\u200d🏫'),
        events.finish_event(),
        events.usage_event(30, 20),
        events.DONE,
        b": ping\r\n\r\n",
        events.error_event(),
        events.delta_event({"refusal": "No"}, "abort"),
        b"".join(halves),
        b"\xef\xbb\xbfdata\rdata: 1\r\r",
    ]
    # The last two line feeds are two lines' ends, though one could belong to the carriage return.
    return [b"\3" + b"".join(parts), *(b"\3" + part for part in parts), b"\1data\r\n\n"]


def _bodies() -> list[bytes]:
    image = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAQAAOw=="
    good = {"prompt": "é?", "subject": "math", "session_id": "a:1", "student_id": None, "accumulate": False}
    asked: list[dict[str, object]] = [{**good}, {**good, "base64_image": image}, {"prompt": 1e300}]
    return [json.dumps(one).encode() for one in asked]


def _statuses() -> list[bytes]:
    """Details of the engine's errors; the first byte is a status code for where they name none."""
    errors = (
        EngineError(Reason.OVERLOADED),
        EngineError(Reason.OVERLOADED, retry_after=-5),
        EngineError(Reason.INVALID_REQUEST, field="question.prompt"),
    )
    packed: list[Any] = [value for error in errors for _, value in to_status(error).trailing_metadata or ()]
    broken = Status(code=3, details=[Detail(type_url=ERROR_INFO, value=b"\xff")])
    return [b"\3" + details for details in (*packed, broken.SerializeToString())]

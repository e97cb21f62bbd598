"""What is fed with foreign bytes, each as a function that raises on whatever must never happen.

Both use them: the fuzzer, which looks for new paths for as long as it may (`make fuzz`), and the tests, with examples
of Hypothesis.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
from fastapi.exceptions import RequestValidationError
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc.aio import Metadata
from studyai.v1.chat_pb2 import ImageQuestion

from engine_grpc.errors import EngineError
from engine_grpc.image import MAX_PIXELS, ImageError, inspect
from engine_grpc.model import Done
from engine_grpc.openai_reply import _Answer
from engine_grpc.question import Question
from sse_gateway import question
from sse_gateway.errors import RULES, GatewayError, error_event, error_response
from sse_gateway.record import RequestRecord
from sse_gateway.status import gateway_error

if TYPE_CHECKING:
    from collections.abc import Callable

    Target = Callable[[bytes], None]


def reader(data: bytes) -> None:
    """The reader of what the model's server sends: the same in one piece and in pieces, and always valid text."""
    size, body = data[:1], data[1:]
    pieces = max(1, size[0] if size else 1)
    whole, split = _read(body, max(1, len(body))), _read(body, pieces)
    assert whole == split
    text, ending = whole
    assert text.encode("utf-8").decode("utf-8") == text
    if isinstance(ending, Done) and ending.usage:
        counts = (ending.usage.prompt_tokens, ending.usage.completion_tokens, ending.usage.total_tokens)
        assert all(type(count) is int and 0 <= count < 2**32 for count in counts)


def _read(body: bytes, size: int) -> tuple[str, Done | str]:
    answer, text = _Answer(), ""
    for start in range(0, len(body), size):
        if not answer.complete:
            text += answer.feed(body[start : start + size])
    if not answer.complete:
        text += answer.feed(b"")
    try:
        return text, answer.done()
    except EngineError as error:
        return text, error.reason


def picture(data: bytes) -> None:
    """A picture's file: refused, or taken with what it shows and nothing that is cut out once more."""
    try:
        taken = inspect(data)
    except ImageError:
        return
    assert 0 < taken.width * taken.height <= MAX_PIXELS
    assert len(taken.data) <= len(data) + 64
    assert inspect(taken.data) == taken


def body(data: bytes) -> None:
    """A request's body: a question that both services take, or an error that names what is wrong."""
    try:
        read = question._asked(bytearray(data))
        asked = question._question(read, read.student_id or "")
    except (GatewayError, RequestValidationError):
        return
    taken = ImageQuestion.FromString(asked.SerializeToString())
    assert taken == asked
    assert _refused_by_the_engine(taken) in (None, "question.prompt")  # where nothing of it can be seen


def _refused_by_the_engine(asked: ImageQuestion) -> str | None:
    """Returns the field at fault."""
    fields = {"prompt": asked.prompt, "session_id": asked.session_id, "student_id": asked.student_id}
    try:
        Question.checked(image=asked.image, subject=asked.subject, **fields)
    except EngineError as error:
        return error.field
    return None


def status(data: bytes) -> None:
    """A failed call's status and trailers: an error of the table, with a sentence and a sensible pause."""
    code, packed = data[:1], data[1:]
    told, known = Status(), {code.value[0]: code for code in grpc.StatusCode}
    with suppress(DecodeError):
        told.ParseFromString(packed)
    # Both have to say the same to be believed, so that they mostly do.
    status = known.get(told.code, known[code[0] % len(known) if code else 0])
    metadata = Metadata(("grpc-status-details-bin", packed))
    error = gateway_error(grpc.aio.AioRpcError(status, Metadata(), metadata, details=told.message))
    reply = error_response(error, RequestRecord("req-1"))
    event = error_event(error, RequestRecord("req-1"), partial=False)
    assert reply.status_code == RULES[error.code].status
    assert event.code == error.code
    assert int(reply.headers.get("Retry-After", 1)) >= 1


TARGETS: dict[str, Target] = {"reader": reader, "picture": picture, "body": body, "status": status}

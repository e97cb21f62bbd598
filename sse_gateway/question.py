"""From a request's body to the question in it: counted while it arrives, checked, the picture decoded.

Read here and not by FastAPI, which keeps the body and what it parsed from it for as long as the answer streams.
"""

import asyncio
import re
from contextlib import aclosing
from typing import TypeVar

import pybase64
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from studyai.v1.chat_pb2 import ChatImageRequest, CompleteChatImageRequest, ImageQuestion

from sse_gateway.auth import Caller
from sse_gateway.dependencies import Parts
from sse_gateway.disconnect import ClientGoneError
from sse_gateway.errors import ErrorCode, GatewayError, payload_too_large
from sse_gateway.headers import IDEMPOTENCY_KEY
from sse_gateway.limits import Admission
from sse_gateway.record import RequestRecord
from sse_gateway.schemas import QuestionBody
from sse_gateway.uploads import Upload

# Bounded: an address of 3 MB would have it look back and forth for half a second.
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,64}(;[a-z0-9.=+-]{1,64}){0,4};base64,", re.IGNORECASE)
_WHITE_SPACE = b" \t\r\n"
_MAX_PICTURE_BYTES = 3 * 1024 * 1024
"""The engine's limit: a larger MAX_PAYLOAD_BYTES lets more come, which would go there for nothing."""

CallRequest = TypeVar("CallRequest", ChatImageRequest, CompleteChatImageRequest)


class AskedQuestion:
    """What a client asks, and how it wants to be told."""

    def __init__(self, asked: QuestionBody, student_id: str, key: str, upload: Upload) -> None:
        self._question = [_question(asked, student_id)]
        self._key = key
        self.accumulate = asked.accumulate is not False
        self.accepted = upload.release
        """To be called when an engine has it, and its bytes are not kept any more."""

    def hand_over(self, request: type[CallRequest]) -> CallRequest:
        """Returns the question as a call's request. Once only: this object is kept while the call lasts."""
        return request(question=self._question.pop(), request_id=self._key)


async def read_question(request: Request, asker: Caller, deadline: float | None) -> AskedQuestion:
    """Reads the request's body, if there is a chance that its question is answered.

    Raises:
        GatewayError: PAYLOAD_TOO_LARGE, DEADLINE_EXCEEDED, OVERLOADED, FORBIDDEN, RATE_LIMITED, or IMAGE_UNREADABLE:
            not base64.
        RequestValidationError: The key or the body is not as documented.
        ClientGoneError: The client left while it was sending.
    """
    parts, record = Parts.of(request), RequestRecord.of(request)
    key = IDEMPOTENCY_KEY.read(request)
    if not key:  # With one it may join an answer, which needs no room.
        parts.engine.check_room()
    upload = Upload(parts.uploads, _expected(request, parts.settings.max_payload_bytes))
    admission = Admission(parts.limits, record.headers)
    record.at_end += upload.release, admission.close
    if asker.student_id is not None:
        # Before the body is read. Without a token only the body says who asks.
        await admission.take(asker.student_id)
    asked = _asked(await _in_time(request, parts, upload, deadline))
    named = "student_id" in asked.model_fields_set  # and not by its default
    student_id = asker.student((named and asked.student_id) or "")
    await admission.take(student_id)
    return AskedQuestion(asked, student_id, key or "", upload)


def _expected(request: Request, limit: int) -> int:
    """Returns how many bytes are to come, as far as the head tells."""
    declared = int(request.headers.get("content-length", 0))
    if declared > limit:
        raise payload_too_large(declared, limit)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise GatewayError(ErrorCode.INVALID_REQUEST, "Content-Encoding: Send the body as it is, not compressed.")
    return declared or limit


async def _in_time(request: Request, parts: Parts, upload: Upload, deadline: float | None) -> bytearray:
    try:
        async with asyncio.timeout_at(deadline) as timer:
            with parts.lifecycle.arriving(timer):
                return await _read_body(request, parts.settings.max_payload_bytes, upload)
    except TimeoutError:
        code = ErrorCode.DRAINING if parts.lifecycle.ended else ErrorCode.DEADLINE_EXCEEDED
        raise GatewayError(code) from None


async def _read_body(request: Request, limit: int, upload: Upload) -> bytearray:
    body = bytearray()
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                if len(body) + len(chunk) > limit:
                    raise payload_too_large(len(body) + len(chunk), limit)
                await upload.grow(len(chunk))
                body += chunk
    except ClientDisconnect:
        raise ClientGoneError from None
    return body


def _asked(body: bytearray) -> QuestionBody:
    try:
        return QuestionBody.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(faults) from None


def _question(asked: QuestionBody, student_id: str) -> ImageQuestion:
    image = _decoded(asked.base64_image or "")
    if len(image) > _MAX_PICTURE_BYTES:
        raise payload_too_large(len(image), _MAX_PICTURE_BYTES, "picture")
    return ImageQuestion(
        image=image,
        prompt=asked.prompt,
        subject=asked.subject or "",
        session_id=asked.session_id or "",
        student_id=student_id,
    )


def _decoded(text: str) -> bytes:
    """Returns what the base64 stands for; see RFC 4648, section 4. White space in it is tolerated, at a price."""
    prefix = _DATA_URL.match(text)
    encoded = text[prefix.end() if prefix else 0 :]
    try:
        return pybase64.b64decode(encoded, validate=True)
    except ValueError:
        pass
    try:
        return pybase64.b64decode(encoded.encode("ascii").translate(None, _WHITE_SPACE), validate=True)
    except ValueError:
        raise GatewayError(ErrorCode.IMAGE_UNREADABLE, "base64_image: This is not standard base64.") from None

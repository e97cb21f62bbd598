"""From a request's body to the question in it: counted while it arrives, checked, the picture decoded.

Read here and not by FastAPI, which keeps the body and what it parsed from it for as long as the answer streams.
"""

import binascii
import re
from contextlib import aclosing
from typing import NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from studyai.v1.chat_pb2 import ImageQuestion

from sse_gateway.dependencies import AppParts
from sse_gateway.disconnect import ClientGoneError
from sse_gateway.errors import ErrorCode, GatewayError, payload_too_large
from sse_gateway.schemas import QuestionBody

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9.=+-]+)*;base64,", re.IGNORECASE)
_WHITE_SPACE = b" \t\r\n"


class AskedQuestion(NamedTuple):
    """What a client asks, and how it wants to be told."""

    question: ImageQuestion
    accumulate: bool


async def read_question(request: Request, parts: AppParts) -> AskedQuestion:
    """Reads the request's body.

    Raises:
        GatewayError: PAYLOAD_TOO_LARGE, or IMAGE_UNREADABLE: not base64.
        RequestValidationError: The body is not as documented.
        ClientGoneError: The client left while it was sending.
    """
    body = await _read_body(request, parts.settings.max_payload_bytes)
    try:
        asked = QuestionBody.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(faults) from None
    question = ImageQuestion(
        image=_decoded(asked.base64_image or ""),
        prompt=asked.prompt,
        subject=asked.subject or "",
        session_id=asked.session_id or "",
        student_id=asked.student_id or "",
    )
    return AskedQuestion(question, asked.accumulate is not False)


async def _read_body(request: Request, limit: int) -> bytearray:
    declared = int(request.headers.get("content-length", 0))
    if declared > limit:
        raise payload_too_large(declared, limit)
    body = bytearray()
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                if len(body) + len(chunk) > limit:
                    raise payload_too_large(len(body) + len(chunk), limit)
                body += chunk
    except ClientDisconnect:
        raise ClientGoneError from None
    return body


def _decoded(text: str) -> bytes:
    """Returns what the base64 stands for; see RFC 4648, section 4."""
    prefix = _DATA_URL.match(text)
    try:
        encoded = text[prefix.end() if prefix else 0 :].encode("ascii").translate(None, _WHITE_SPACE)
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise GatewayError(ErrorCode.IMAGE_UNREADABLE, "base64_image: This is not standard base64.") from None

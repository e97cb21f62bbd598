"""OpenAI's wire: what a request to `/v1/chat/completions` may be, and how answers and errors are written.

After OpenAI's API reference, "Create chat completion" and "Chat completion chunk object". Fields that this
model has no use for are accepted and ignored, as servers of this kind do.
"""

import base64
import binascii
import json
import time
import uuid
from typing import Annotated, Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, Field

MODEL = "studyai-local"
"""The model that answers, whatever model was asked for."""


class ApiError(Exception):
    """A request that is refused; the message is meant for the client."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    def response(self) -> JSONResponse:
        """Returns this error in OpenAI's shape."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, self.status)


class ImageUrl(BaseModel):
    """Where the picture is; only `data:` URLs are accepted."""

    url: str


class TextPart(BaseModel):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def _as_parts(content: object) -> object:
    """Returns the short form of a content, a string or nothing, in its long form."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [] if content is None else content


class Message(BaseModel):
    """One turn of the conversation."""

    role: str
    content: Annotated[list[Part], BeforeValidator(_as_parts)] = Field(default_factory=list)


class StreamOptions(BaseModel):
    """How to stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    """The older name of `max_completion_tokens`."""

    @property
    def token_limit(self) -> int | None:
        """The most tokens that may be answered; none for no limit."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk about usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def texts(self) -> list[str]:
        """Returns every text of every message, the system's too: this is what the prompt's tokens count."""
        return [part.text for message in self.messages for part in message.content if part.type == "text"]

    def question(self) -> str:
        """Returns the last text of the user; earlier ones are earlier turns, or about the question."""
        texts = [
            part.text
            for message in self.messages
            if message.role == "user"
            for part in message.content
            if part.type == "text"
        ]
        return texts[-1] if texts else ""

    def image(self) -> bytes | None:
        """Returns the last picture of the conversation, encoded as it came; none if there is none.

        Raises:
            ApiError: 400, if it is no `data:` URL in base64. Nothing is ever fetched.
        """
        urls = [part.image_url.url for message in self.messages for part in message.content if part.type == "image_url"]
        return _decode_data_url(urls[-1]) if urls else None


def _decode_data_url(url: str) -> bytes:
    header, _, payload = url.partition(",")
    if not header.startswith("data:image/") or not header.endswith(";base64"):
        message = "Only data:image/...;base64 URLs are accepted: this server fetches nothing."
        raise ApiError(400, message, param="messages", code="invalid_image_url")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "The image is not valid base64.", param="messages", code="invalid_base64") from error


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Returns the usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class Reply:
    """The frames of one answer, which share its id and time.

    Args:
        usage_follows: whether a stream will end with `usage`; then every other chunk says that it has none.
    """

    def __init__(self, *, usage_follows: bool = False) -> None:
        self._no_usage = {"usage": None} if usage_follows else {}
        self._head: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}

    def completion(self, text: str, finish_reason: str, usage: dict[str, int]) -> dict[str, Any]:
        """Returns the whole answer as one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """Returns the event of one delta."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event({"choices": [choice], **self._no_usage})

    def usage(self, usage: dict[str, int]) -> bytes:
        """Returns the event that tells the usage."""
        return self._event({"choices": [], "usage": usage})

    def _event(self, fields: dict[str, Any]) -> bytes:
        chunk = {**self._head, "object": "chat.completion.chunk", **fields}
        return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
"""Ends every stream."""

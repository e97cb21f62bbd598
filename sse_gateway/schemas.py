"""What the clients send and get, as models: they check the requests, write the replies and are what OpenAPI shows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from sse_gateway import examples


def _may_be_absent(schema: dict[str, Any]) -> None:
    """Takes the default out of a member's schema: nothing stands for it on the wire."""
    del schema["default"]


def _examples(*shown: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(shown)})


class _Matching:
    """Makes a rule of a pattern, with a sentence in place of pydantic's, which shows the pattern."""

    def __init__(self, pattern: str, sentence: str) -> None:
        self._pattern = re.compile(pattern)
        self._sentence = sentence

    def __call__(self, text: str) -> str:
        if not self._pattern.fullmatch(text):
            raise PydanticCustomError("pattern", "{sentence}", {"sentence": self._sentence})
        return text

    @property
    def schema(self) -> WithJsonSchema:
        """Says the same in JSON Schema."""
        return WithJsonSchema({"type": "string", "pattern": f"^{self._pattern.pattern}$"})


_ID = _Matching(r"[A-Za-z0-9_.:-]{0,128}", "At most 128 characters of letters, digits and _ . : -")
_KEY = _Matching(r"[\x21-\x7e]{1,128}", "1 to 128 visible ASCII characters")

Id = Annotated[str, AfterValidator(_ID), _ID.schema]
Key = Annotated[str, AfterValidator(_KEY), _KEY.schema]
"""An idempotency key."""
FinishReasonName = Literal["stop", "length", "content_filter", "stopped"]


class QuestionBody(BaseModel):
    """A question about a photographed page. `null` counts as absent; unknown members are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    base64_image: str | None = Field(
        default=None,
        description="The picture's file in standard base64: JPEG, PNG, WebP or GIF. Line breaks and a "
        "`data:image/…;base64,` prefix are tolerated.",
        examples=["iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"],
    )
    prompt: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)] = Field(
        description="The question; white space around it does not count.", examples=["How do I solve number 3?"]
    )
    subject: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default="general", description="The school subject.", examples=["math"]
    )
    session_id: Id | None = Field(
        default=None, description="Turns with the same one share a chat context.", examples=["chat-7"]
    )
    student_id: Id | None = Field(default="anonymous", description="Who asks.", examples=["student-42"])
    accumulate: bool | None = Field(
        default=True,
        description="`false` leaves `content` out of `content` events: the delta alone, for clients that add up "
        "themselves. Does not matter to the fallback.",
    )


class Usage(BaseModel):
    """Tokens as the model's provider counts them."""

    prompt_tokens: int = Field(ge=0, description="Tokens of everything sent to the model, the picture included.")
    completion_tokens: int = Field(ge=0, description="Tokens that the model wrote.")
    total_tokens: int = Field(ge=0, description="The sum of both.")
    estimated: bool = Field(
        default=False,
        description="Present, and true, when the provider reported no usage: the counts are an estimate.",
        json_schema_extra=_may_be_absent,
    )


class StartEvent(BaseModel):
    """The first event of every stream: the question is accepted."""

    model_config = _examples(examples.START)

    type: Literal["start"]
    timestamp: str = Field(
        description="When the question was accepted (UTC).",
        json_schema_extra={"format": "date-time"},
    )
    model: str = Field(description="The model that is asked.")
    answer_id: str = Field(description="Names this answer.")
    session_id: str = Field(description="The session this question belongs to: the client's, or a new one.")


class ContentEvent(BaseModel):
    """More of the answer. Under load several pieces arrive as one event."""

    model_config = _examples(*examples.CONTENT)

    type: Literal["content"]
    content: str = Field(
        default="",
        description="The whole text so far. Absent with `accumulate: false`.",
        json_schema_extra=_may_be_absent,
    )
    delta: str = Field(description="What is new: append it to what came before.")


class EndEvent(BaseModel):
    """The last event of every complete stream."""

    model_config = _examples(examples.END)

    type: Literal["end"]
    tokens: int = Field(ge=0, description="`usage.total_tokens`.")
    finish_reason: FinishReasonName = Field(
        description="`length`: cut at the token limit; `content_filter`: cut by the model's provider; `stopped`: "
        "somebody stopped it."
    )
    processing_time_ms: int = Field(ge=0, description="From accepting the question to the end of the answer.")
    content: str = Field(description="The whole answer.")
    usage: Usage


class ErrorEvent(BaseModel):
    """The last event of a stream that failed after its start."""

    model_config = _examples(examples.ERROR)

    type: Literal["error"]
    error: str = Field(description="What failed, in a sentence.")
    code: str = Field(description="What failed: branch on this.")
    retryable: bool = Field(description="Whether asking again can help.")
    retry_after_ms: int = Field(
        default=0, ge=0, description="How long to wait before that.", json_schema_extra=_may_be_absent
    )
    partial: bool = Field(description="Whether some of the answer's text came before.")
    fallback_endpoint: str = Field(
        default="",
        description="Where to ask the same without a stream.",
        json_schema_extra=_may_be_absent,
    )
    request_id: str = Field(description="Names this request in the service's logs.")


AnswerEvent = Annotated[StartEvent | ContentEvent | EndEvent | ErrorEvent, Field(discriminator="type")]


class AnswerReply(BaseModel):
    """A whole answer."""

    model_config = _examples(examples.REPLY)

    success: Literal[True]
    response: str = Field(description="The answer.")
    processing_time_ms: int = Field(ge=0, description="From accepting the question to the end of the answer.")
    tokens_used: int = Field(ge=0, description="`usage.total_tokens`.")
    image_analyzed: bool
    error: None
    model: str = Field(description="The model that answered.")
    finish_reason: FinishReasonName
    answer_id: str
    usage: Usage


class AnswerInProgress(BaseModel):
    """The answer is still being written."""

    model_config = _examples(examples.IN_PROGRESS)

    answer_id: str
    status: Literal["in_progress"]


class ErrorReply(BaseModel):
    """Why there is no answer."""

    success: Literal[False]
    error: str = Field(description="What failed, in a sentence.")
    code: str = Field(description="What failed: branch on this.")
    retryable: bool = Field(description="Whether asking again can help; `Retry-After` says when.")
    request_id: str = Field(description="Names this request in the service's logs.")
    response: str = Field(description="A sentence fit to be shown to a student in place of an answer.")
    processing_time_ms: int = Field(ge=0)
    fallback_endpoint: str = Field(
        default="", description="Where to ask the same without a stream.", json_schema_extra=_may_be_absent
    )
    message: str = Field(default="", description="413 only: as `error`.", json_schema_extra=_may_be_absent)
    max_size_mb: float = Field(
        default=0, alias="maxSizeMB", description="413 only: the limit in MiB.", json_schema_extra=_may_be_absent
    )
    actual_size_mb: float = Field(
        default=0,
        alias="actualSizeMB",
        description="413 only: the body's size in MiB, as declared or as far as it was counted.",
        json_schema_extra=_may_be_absent,
    )

"""Every failure the engine can name, in one table.

A failure is raised as `EngineError(Reason.…)` wherever it is noticed, and read from `RULES` wherever it is told:
the gRPC status, whether trying again can help, and the sentence. Sentences are fixed, so that no exception text,
host, key or student's word can slip into one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The stable code of a failure: `google.rpc.ErrorInfo.reason`, and `code` of the gateway's errors."""

    INVALID_REQUEST = "INVALID_REQUEST"
    IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    ANSWER_NOT_FOUND = "ANSWER_NOT_FOUND"
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
    """How a reason is told to the caller."""

    status: str
    """Name of the gRPC status code, as in `grpc.StatusCode`."""
    sentence: str
    """What the caller reads."""
    retry_after: float | None = None
    """Seconds to wait before another try; None where no try can help."""


RULES: dict[Reason, Rule] = {
    Reason.INVALID_REQUEST: Rule("INVALID_ARGUMENT", "The request is not valid."),
    Reason.IMAGE_UNREADABLE: Rule("INVALID_ARGUMENT", "The picture cannot be read."),
    Reason.PAYLOAD_TOO_LARGE: Rule("RESOURCE_EXHAUSTED", "The picture is too large."),
    Reason.IDEMPOTENCY_KEY_REUSED: Rule("INVALID_ARGUMENT", "This idempotency key came with another question before."),
    Reason.UNAUTHENTICATED: Rule("UNAUTHENTICATED", "A valid service token is required."),
    Reason.ANSWER_NOT_FOUND: Rule("NOT_FOUND", "There is no such answer, or it is not kept any more."),
    Reason.OVERLOADED: Rule("UNAVAILABLE", "The service is busy. Please try again.", 1),
    Reason.DRAINING: Rule("UNAVAILABLE", "The service is restarting. Please try again.", 1),
    Reason.ENGINE_UNAVAILABLE: Rule("UNAVAILABLE", "The service cannot be reached. Please try again.", 1),
    Reason.UPSTREAM_RATE_LIMITED: Rule("UNAVAILABLE", "The AI service is busy. Please try again.", 2),
    Reason.UPSTREAM_UNAVAILABLE: Rule("UNAVAILABLE", "The AI service cannot be reached. Please try again.", 2),
    Reason.UPSTREAM_AUTH: Rule("UNAVAILABLE", "The AI service refused this service's credentials."),
    Reason.UPSTREAM_REJECTED: Rule("FAILED_PRECONDITION", "The AI service declined this question."),
    Reason.UPSTREAM_TRUNCATED: Rule("UNAVAILABLE", "The AI service broke off its answer. Please try again.", 1),
    Reason.UPSTREAM_PROTOCOL: Rule("UNAVAILABLE", "The AI service sent an answer that cannot be understood.", 1),
    Reason.UPSTREAM_TIMEOUT: Rule("DEADLINE_EXCEEDED", "The AI service went silent. Please try again.", 1),
    Reason.DEADLINE_EXCEEDED: Rule("DEADLINE_EXCEEDED", "The answer took too long. Please try again.", 1),
    Reason.INTERNAL: Rule("INTERNAL", "Something went wrong inside the service. Please try again.", 1),
}


class EngineError(Exception):
    """A failure that the caller is told about.

    Args:
        reason: What failed.
        message: A fixed sentence that says more than the table's; never built from the caller's data.
        field: The request's field at fault, as a path in the proto message, such as `question.prompt`.
        retry_after: Seconds to wait before another try, where the table's default is not it.
    """

    def __init__(
        self,
        reason: Reason,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        rule = RULES[reason]
        super().__init__(message or rule.sentence)
        self.reason = reason
        self.message = message or rule.sentence
        self.field = field
        self.retry_after = rule.retry_after if retry_after is None else retry_after

    def alone(self) -> EngineError:
        """Returns the same failure without the frames that this one came through: they hold the question's picture."""
        return EngineError(self.reason, self.message, field=self.field, retry_after=self.retry_after)

    @property
    def retryable(self) -> bool:
        """Whether another try can help."""
        return self.retry_after is not None

    @property
    def status(self) -> str:
        """Name of the gRPC status code."""
        return RULES[self.reason].status

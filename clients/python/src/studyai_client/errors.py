"""Every failure as an exception of its own: the service's codes, one class each, and four that only a client has.

The service says whether trying again can help (`retryable`) and when (`retry_after`); the classes repeat none of it.
"""

from __future__ import annotations


class StudyAIError(Exception):
    """A question that was not answered, or not to its end. Also raised as it is for codes of a newer service.

    Args:
        message: What failed, in a sentence; of the service's own, it says nothing of its inside.
        code: The service's stable code, where it is not the class's.
        retryable: Whether asking again can help.
        retry_after: Seconds to wait before that, where the service said so.
        request_id: Names the request in the service's logs.
    """

    code = "UNKNOWN"
    """What failed: the code of the service, as in its table of errors."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.retryable = retryable
        self.retry_after = retry_after
        self.request_id = request_id
        self.partial_text = ""
        """The text that came before the failure."""
        self.answer_id: str | None = None
        """The answer that failed, if one had begun: `resume` may still find it."""


class InvalidRequestError(StudyAIError):
    """A field is missing, too long or malformed; the message names it."""

    code = "INVALID_REQUEST"


class ImageUnreadableError(StudyAIError):
    """The picture is no JPEG, PNG, WebP or GIF, or has more than 50 megapixels."""

    code = "IMAGE_UNREADABLE"


class PayloadTooLargeError(StudyAIError):
    """The picture is too large: 3 MiB in all, over HTTP in base64."""

    code = "PAYLOAD_TOO_LARGE"


class IdempotencyKeyReusedError(StudyAIError):
    """The key came with another question before."""

    code = "IDEMPOTENCY_KEY_REUSED"


class UnauthenticatedError(StudyAIError):
    """A valid token is required."""

    code = "UNAUTHENTICATED"


class ForbiddenError(StudyAIError):
    """The token does not allow that: it is another student's."""

    code = "FORBIDDEN"


class AnswerNotFoundError(StudyAIError):
    """There is no such answer, it is not kept any more, or it is another student's."""

    code = "ANSWER_NOT_FOUND"


class RateLimitedError(StudyAIError):
    """This student asked too much."""

    code = "RATE_LIMITED"


class AuthUnavailableError(StudyAIError):
    """Tokens cannot be checked right now."""

    code = "AUTH_UNAVAILABLE"


class OverloadedError(StudyAIError):
    """The service has no room for another answer."""

    code = "OVERLOADED"


class DrainingError(StudyAIError):
    """The service is restarting."""

    code = "DRAINING"


class EngineUnavailableError(StudyAIError):
    """The engine cannot be reached, or died."""

    code = "ENGINE_UNAVAILABLE"


class UpstreamRateLimitedError(StudyAIError):
    """The model's provider is busy."""

    code = "UPSTREAM_RATE_LIMITED"


class UpstreamUnavailableError(StudyAIError):
    """The model's provider cannot be reached."""

    code = "UPSTREAM_UNAVAILABLE"


class UpstreamAuthError(StudyAIError):
    """The model's provider refused the service's key."""

    code = "UPSTREAM_AUTH"


class UpstreamRejectedError(StudyAIError):
    """The model's provider declined the question."""

    code = "UPSTREAM_REJECTED"


class UpstreamTruncatedError(StudyAIError):
    """The model's provider broke off its answer."""

    code = "UPSTREAM_TRUNCATED"


class UpstreamProtocolError(StudyAIError):
    """The model's provider sent an answer that cannot be understood."""

    code = "UPSTREAM_PROTOCOL"


class UpstreamTimeoutError(StudyAIError):
    """The model's provider went silent."""

    code = "UPSTREAM_TIMEOUT"


class DeadlineExceededError(StudyAIError):
    """The answer took longer than the caller, or the service, allows."""

    code = "DEADLINE_EXCEEDED"


class InternalError(StudyAIError):
    """Something went wrong inside the service."""

    code = "INTERNAL"


class ConnectionFailedError(StudyAIError):
    """The service cannot be reached. A client's own."""

    code = "CONNECTION_FAILED"


class ConnectionLostError(StudyAIError):
    """The connection broke in the middle, and going back did not help. A client's own."""

    code = "CONNECTION_LOST"


class StreamingUnavailableError(StudyAIError):
    """What is between here and the service lets no stream through, and there is no fallback. A client's own."""

    code = "STREAMING_UNAVAILABLE"


class ProtocolError(StudyAIError):
    """What came is nothing that StudyAI says. A client's own."""

    code = "PROTOCOL"


_CLASSES = {error.code: error for error in StudyAIError.__subclasses__()}


def service_error(
    code: str, message: str, *, retryable: bool, retry_after: float | None = None, request_id: str | None = None
) -> StudyAIError:
    """Returns the exception for a failure that the service told."""
    kind = _CLASSES.get(code, StudyAIError)
    return kind(message, code=code, retryable=retryable, retry_after=retry_after, request_id=request_id)

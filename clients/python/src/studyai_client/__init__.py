"""StudyAI's client: asks about a photographed page, over HTTP or gRPC, and reads the answer while it is written.

`StudyAI` blocks, `AsyncStudyAI` is for asyncio; the address chooses the wire. Both give the same frozen events, raise
the same exceptions, and see an answer through broken connections without asking the model twice.
"""

from studyai_client.async_client import AsyncAnswerStream, AsyncStudyAI
from studyai_client.client import AnswerStream, StudyAI
from studyai_client.errors import (
    AnswerNotFoundError,
    AuthUnavailableError,
    ConnectionFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    DrainingError,
    EngineUnavailableError,
    ForbiddenError,
    IdempotencyKeyReusedError,
    ImageUnreadableError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    ProtocolError,
    RateLimitedError,
    StreamingUnavailableError,
    StudyAIError,
    UnauthenticatedError,
    UpstreamAuthError,
    UpstreamProtocolError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTruncatedError,
    UpstreamUnavailableError,
)
from studyai_client.events import Answer, Delta, Event, Finished, FinishReason, Started, Usage
from studyai_client.options import Backoff, Tls
from studyai_client.question import Picture
from studyai_client.settings import AskOptions, ClientOptions, ReadOptions

__all__ = [
    "Answer",
    "AnswerNotFoundError",
    "AnswerStream",
    "AskOptions",
    "AsyncAnswerStream",
    "AsyncStudyAI",
    "AuthUnavailableError",
    "Backoff",
    "ClientOptions",
    "ConnectionFailedError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "Delta",
    "DrainingError",
    "EngineUnavailableError",
    "Event",
    "FinishReason",
    "Finished",
    "ForbiddenError",
    "IdempotencyKeyReusedError",
    "ImageUnreadableError",
    "InternalError",
    "InvalidRequestError",
    "OverloadedError",
    "PayloadTooLargeError",
    "Picture",
    "ProtocolError",
    "RateLimitedError",
    "ReadOptions",
    "Started",
    "StreamingUnavailableError",
    "StudyAI",
    "StudyAIError",
    "Tls",
    "UnauthenticatedError",
    "UpstreamAuthError",
    "UpstreamProtocolError",
    "UpstreamRateLimitedError",
    "UpstreamRejectedError",
    "UpstreamTimeoutError",
    "UpstreamTruncatedError",
    "UpstreamUnavailableError",
    "Usage",
]

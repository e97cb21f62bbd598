"""StudyAI's HTTP side without the I/O: steps to requests, replies and events to ours, failures to exceptions.

The events are asked for without `content` (`accumulate: false`): the deltas are all that is needed, and a long answer
costs its length once.
"""

from __future__ import annotations

import base64
import json
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2

from studyai_client.errors import (
    ConnectionFailedError,
    ConnectionLostError,
    ProtocolError,
    StreamingUnavailableError,
    StudyAIError,
    service_error,
)
from studyai_client.events import Answer, Delta, Event, Finished, Started, Usage
from studyai_client.options import STOP_SECONDS
from studyai_client.progress import Ask, Complete, Numbered, Resume
from studyai_client.question import MAX_BYTES, Question, too_large
from studyai_client.unreached import over_http

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from studyai_client.options import Address, Deadline, Tls

_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 40.0
"""A stream is dead when this long nothing comes: the gateway sends a comment every 15 s."""
_LONGEST_TIMEOUT_MS = 3_600_000
"""What the gateway takes."""
_STREAM = "/api/ai/chat-image-stream"
_COMPLETE = "/api/ai/chat-image"
_ANSWERS = "/api/ai/answers"
_BETWEEN = {502, 503, 504}
"""Statuses of proxies that do not reach the gateway."""
_UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request, as httpx2's `stream` and `request` take it."""

    method: str
    url: str
    timeout: httpx2.Timeout
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All of it."""
        return {name: getattr(self, name) for name in self.__slots__}


def client_arguments(address: Address, token: str | None, tls: Tls) -> dict[str, Any]:
    """Returns what httpx2's clients are made with."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    made: dict[str, Any] = {"base_url": address.url, "headers": headers, "follow_redirects": False}
    if address.tls and tls.ca_file:
        made["verify"] = ssl.create_default_context(cafile=tls.ca_file)
    if address.tls and tls.cert_file:
        made.setdefault("verify", httpx2.create_ssl_context())
        made["verify"].load_cert_chain(tls.cert_file, tls.key_file)
    return made


def extensions(tls: Tls) -> dict[str, str]:
    """Returns what every request is made with, beside its own."""
    return {"sni_hostname": tls.server_name} if tls.server_name else {}


def stream_request(step: Ask | Resume, deadline: Deadline) -> HttpRequest:
    """Returns the request that opens a step's stream.

    Raises:
        PayloadTooLargeError: The question has no room in a body.
        DeadlineExceededError: It is too late.
    """
    left = deadline.remaining()
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **_deadline(left)}
    timeout = _timeout(_SILENCE_SECONDS if left is None else min(left, _SILENCE_SECONDS))
    if isinstance(step, Ask):
        headers |= _asking(step.question)
        return HttpRequest(method="POST", url=_STREAM, headers=headers, content=_body(step.question), timeout=timeout)
    if step.after is not None:
        headers["Last-Event-ID"] = str(step.after)
    params = {"accumulate": "false", **_student(step.student_id)}
    return HttpRequest(
        method="GET", url=f"{_ANSWERS}/{step.answer_id}", headers=headers, params=params, timeout=timeout
    )


def complete_request(step: Complete, deadline: Deadline) -> HttpRequest:
    """Returns the request for the whole answer; see `stream_request`."""
    left = deadline.remaining()
    headers = {"Accept": "application/json", **_asking(step.question), **_deadline(left)}
    return HttpRequest(
        method="POST", url=_COMPLETE, headers=headers, content=_body(step.question), timeout=_timeout(left)
    )


def stop_request(answer_id: str, student_id: str) -> HttpRequest:
    """Returns the request that stops an answer."""
    return HttpRequest(
        method="DELETE",
        url=f"{_ANSWERS}/{answer_id}",
        params=_student(student_id),
        timeout=_timeout(STOP_SECONDS),
    )


def is_stream(reply: httpx2.Response) -> bool:
    """Tells whether events follow, and has a byte order mark before them left out, as the standard wants it."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    # https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream; httpx2 keeps the mark.
    reply.encoding = "utf-8-sig"
    return reply.status_code == httpx2.codes.OK and kind == "text/event-stream"


def event_of(told: httpx2.ServerSentEvent) -> Numbered | None:
    """Returns an event; None for those that this version does not know.

    Raises:
        StudyAIError: It tells of a failure.
        ProtocolError: It is nothing of StudyAI's.
    """
    if not told.data:
        return None
    try:
        members = json.loads(told.data)
        if members["type"] == "error":
            raise _told_error(members, members.get("retry_after_ms"))
        event = _event(members)
        return Numbered(int(told.id), event) if event else None
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError("An event of the stream cannot be understood.") from error


def answer_of(body: bytes) -> Answer:
    """Returns the whole answer in a reply of the fallback.

    Raises:
        ProtocolError: There is none.
    """
    try:
        members = json.loads(body)
        return Answer(
            answer_id=members["answer_id"],
            model=members["model"],
            session_id=None,
            started_at=None,
            text=members["response"],
            finish_reason=members["finish_reason"],
            usage=_usage(members["usage"]),
            elapsed=timedelta(milliseconds=members["processing_time_ms"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError("The reply is not an answer: is this address StudyAI's?") from error


def refusal(reply: httpx2.Response, *, streaming: bool) -> StudyAIError:
    """Returns the failure that a reply, read to its end, tells of.

    Args:
        reply: With any status but a success.
        streaming: Whether a stream was asked for: what something between has in place of it, the fallback may not.
    """
    try:
        members = json.loads(reply.content)
        after = reply.headers.get("retry-after")
        return _told_error(members, float(after) * 1000 if after else None)
    except (ValueError, KeyError, TypeError):
        request_id = reply.headers.get("x-request-id")
    status = f"HTTP {reply.status_code}"
    if reply.status_code in _BETWEEN:
        return ConnectionFailedError(f"{status} from in front of the service.", retryable=True, request_id=request_id)
    if streaming:
        return StreamingUnavailableError(f"{status} in place of a stream.", request_id=request_id)
    return ProtocolError(f"{status}, which is not StudyAI's: is the address right?", request_id=request_id)


@contextmanager
def told_as_ours(deadline: Deadline) -> Iterator[None]:
    """Raises the failures of connections as exceptions of this package.

    Raises:
        ConnectionFailedError: There is none to be had.
        ConnectionLostError: It broke, or went silent.
        DeadlineExceededError: It is too late.
        ProtocolError: An event is too large.
    """
    try:
        yield
    except httpx2.SSEError as error:
        raise ProtocolError("An event of the stream is too large.") from error
    except _UNREACHED as error:
        deadline.remaining()
        raise over_http(error.request.url.netloc.decode("ascii"), error) from error
    except httpx2.RequestError as error:
        deadline.remaining()
        raise ConnectionLostError("The connection to the service broke.", retryable=True) from error


def _event(members: Mapping[str, Any]) -> Event | None:
    match members["type"]:
        case "start":
            return Started(
                answer_id=members["answer_id"],
                model=members["model"],
                session_id=members["session_id"],
                started_at=datetime.fromisoformat(members["timestamp"]),
            )
        case "content":
            return Delta(text=members["delta"])
        case "end":
            return Finished(
                text=members["content"],
                finish_reason=members["finish_reason"],
                usage=_usage(members["usage"]),
                elapsed=timedelta(milliseconds=members["processing_time_ms"]),
            )
    return None


def _usage(members: Mapping[str, Any]) -> Usage:
    # By name: a newer service may say more.
    return Usage(
        prompt_tokens=members["prompt_tokens"],
        completion_tokens=members["completion_tokens"],
        total_tokens=members["total_tokens"],
        estimated=members.get("estimated", False),
    )


def _told_error(members: Mapping[str, Any], retry_after_ms: float | None) -> StudyAIError:
    return service_error(
        members["code"],
        members["error"],
        retryable=members["retryable"],
        retry_after=None if retry_after_ms is None else retry_after_ms / 1000,
        request_id=members.get("request_id"),
    )


def _body(question: Question) -> bytes:
    members: dict[str, Any] = {"prompt": question.prompt, "accumulate": False}
    if question.image:
        members["base64_image"] = base64.b64encode(question.image).decode("ascii")
    for name in ("subject", "session_id", "student_id"):
        if value := getattr(question, name):
            members[name] = value
    body = json.dumps(members, ensure_ascii=False).encode()
    if len(body) > MAX_BYTES:
        raise too_large("The question with its picture, which travels in base64,")
    return body


def _asking(question: Question) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": question.key}


def _student(student_id: str) -> dict[str, str]:
    return {"student_id": student_id} if student_id else {}


def _deadline(left: float | None) -> dict[str, str]:
    return {} if left is None else {"X-Request-Timeout-Ms": str(max(1, min(round(left * 1000), _LONGEST_TIMEOUT_MS)))}


def _timeout(read: float | None) -> httpx2.Timeout:
    connect = _CONNECT_SECONDS if read is None else min(read, _CONNECT_SECONDS)
    return httpx2.Timeout(read, connect=connect, pool=None)

"""What both clients are told: where the service is, who asks, and how patient they are."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from studyai_client.errors import InvalidRequestError, StudyAIError
from studyai_client.options import DEFAULT_TIMEOUT, DEFAULT_URL, Address, Backoff, Deadline, Tls
from studyai_client.progress import Progress, Resume
from studyai_client.question import Picture, Question, check_id, load_picture

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN = re.compile(r"[\x21-\x7e]+")


class ClientOptions(TypedDict, total=False):
    """A client's keyword arguments: the fields of `Settings`."""

    token: str | None
    student_id: str
    timeout: float | None
    tls: Tls
    backoff: Backoff
    on_retry: Callable[[StudyAIError, float], None] | None


class ReadOptions(TypedDict, total=False):
    """The keyword arguments of `resume`."""

    student_id: str
    """Who asked; the client's where left out."""
    timeout: float
    """Seconds for the whole answer; the client's where left out."""


class AskOptions(ReadOptions, total=False):
    """The keyword arguments of `ask` and `complete`."""

    subject: str
    """The school subject, such as "math"; "general" where left out."""
    session_id: str
    """Questions with the same one share a chat; a new one where left out."""
    key: str
    """An idempotency key of one's own, so that another process can ask the same again; else a random one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a client was told.

    Raises:
        ValueError: The token is none.
    """

    url: str = DEFAULT_URL
    """`http://` or `https://`: the gateway; `grpc://` or `grpcs://` (TLS): the engine itself."""
    token: str | None = field(default=None, repr=False)
    """A bearer token for the gateway, or the service token of the engine. Over TLS, unless it is on this machine."""
    student_id: str = ""
    """Who asks, where a call does not say. Leave it out with a bearer token, which says it."""
    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds for a whole answer, going back to it included, where a call does not say. None for any number."""
    tls: Tls = field(default_factory=Tls)
    backoff: Backoff = field(default_factory=Backoff)
    on_retry: Callable[[StudyAIError, float], None] | None = None
    """Told of each failure that is not the end, and how many seconds later it is tried again."""

    def __post_init__(self) -> None:
        check_token(self.token)

    @property
    def address(self) -> Address:
        """Where the service is.

        Raises:
            ValueError: `url` is none.
        """
        return Address.parse(self.url)

    def asking(
        self,
        picture: Picture | None,
        prompt: str,
        options: AskOptions,
        *,
        streaming: bool,
    ) -> Progress:
        """Returns the beginning of an answer; see `StudyAI.ask`."""
        _check_names(options, AskOptions)
        question = Question(
            image=load_picture(picture),
            prompt=prompt,
            key=options.get("key") or str(uuid.uuid4()),
            subject=options.get("subject", ""),
            session_id=options.get("session_id", ""),
            student_id=self.student(options.get("student_id")),
        )
        return Progress(question, self.backoff, self.deadline(options), streaming=streaming)

    def resuming(self, answer_id: str, options: ReadOptions) -> Progress:
        """Returns the beginning of an answer that was begun before; see `StudyAI.resume`."""
        _check_names(options, ReadOptions)
        origin = Resume(checked(answer_id), self.student(options.get("student_id")), None)
        return Progress(origin, self.backoff, self.deadline(options))

    def student(self, student_id: str | None) -> str:
        """Returns who asks.

        Raises:
            InvalidRequestError: It is no id.
        """
        named = self.student_id if student_id is None else student_id
        check_id("student_id", named)
        return named

    def deadline(self, options: ReadOptions) -> Deadline:
        """Returns when it is too late."""
        return Deadline(options.get("timeout", self.timeout))

    def retrying(self, error: StudyAIError, pause: float) -> None:
        """Tells whoever wants to know."""
        if self.on_retry:
            self.on_retry(error, pause)


def check_token(token: str | None) -> None:
    """Checks a token: both wires would find out while they ask, and take it for a connection that breaks.

    Raises:
        ValueError: It is none. What it is, is not said.
    """
    if token and not _TOKEN.fullmatch(token):
        raise ValueError("The token has letters that no header takes. Is it copied whole, and nothing else with it?")


def _check_names(options: ReadOptions, kind: type[ReadOptions]) -> None:
    known = kind.__annotations__.keys()  # a TypedDict has those of its bases, too
    for name in options.keys() - known:
        raise TypeError(f"No option {name}: there are {', '.join(sorted(known))}.")


def checked(answer_id: str) -> str:
    """Returns an answer's id, which becomes part of a path.

    Raises:
        InvalidRequestError: It cannot be one.
    """
    if not answer_id:
        raise InvalidRequestError("answer_id: it is empty.")
    check_id("answer_id", answer_id)
    return answer_id

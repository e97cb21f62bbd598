"""The blocking client. What it does is decided by `progress`.

It is one of its own, on the blocking halves of httpx2 and grpcio, and no event loop in a thread: Ctrl-C, signals and
threads work as in any blocking code, and it may be used beside a running loop.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Self, Unpack

from studyai_client.errors import StudyAIError
from studyai_client.progress import Complete, Progress, ended_early
from studyai_client.settings import Settings, checked
from studyai_client.transport import transport_to

if TYPE_CHECKING:
    from collections.abc import Generator

    from studyai_client.events import Answer, Event
    from studyai_client.question import Picture
    from studyai_client.settings import AskOptions, ClientOptions, ReadOptions
    from studyai_client.transport import Transport


class StudyAI:
    """Asks StudyAI, and blocks while it waits.

        with StudyAI("https://study.example", token=token) as studyai:
            with studyai.ask("photo.jpg", "What is x?") as answer:
                for event in answer:
                    if isinstance(event, Delta):
                        print(event.text, end="", flush=True)

    Args:
        url: Where the service is: `http://`, `https://`, `grpc://` or `grpcs://`.
        options: `token`, `student_id`, `timeout`, `tls`, `backoff`, `on_retry`: the fields of `Settings`.

    Raises:
        ValueError: The address is none, or the token.
        ImportError: It is gRPC, and the extra `grpc` is not installed.
    """

    def __init__(self, url: str = Settings.url, **options: Unpack[ClientOptions]) -> None:
        self._settings = Settings(url=url, **options)
        self._transport = transport_to(self._settings.address, self._settings.token, self._settings.tls)

    def ask(self, picture: Picture | None, prompt: str, **options: Unpack[AskOptions]) -> AnswerStream:
        """Asks a question, and returns its answer as a stream of events: `Started`, any `Delta`s, `Finished`.

        Nothing is sent before the first event is asked for. Connections that break are made again, and the answer goes
        on where it was; where streams do not come through, it comes in one piece. The model is asked once, and again
        where the service has lost the answer: then `Started` comes once more.

        Args:
            picture: A path, the file's bytes or an open binary file; None where the session has a picture.
            prompt: The question, 1 to 4,000 characters.
            options: `subject`, `session_id`, `student_id`, `key`, `timeout`: see `AskOptions`.

        Raises:
            InvalidRequestError: A field is too long, or malformed.
            ImageUnreadableError: The picture is no JPEG, PNG, WebP or GIF.
            PayloadTooLargeError: It is larger than the service takes.
            OSError: The picture cannot be read.
        """
        return self._stream(self._settings.asking(picture, prompt, options, streaming=True))

    def complete(self, picture: Picture | None, prompt: str, **options: Unpack[AskOptions]) -> Answer:
        """Asks a question, and returns the whole answer; see `ask` for the arguments.

        Raises:
            StudyAIError: There is none.
            OSError: The picture cannot be read.
        """
        with self._stream(self._settings.asking(picture, prompt, options, streaming=False)) as answer:
            return answer.read()

    def resume(self, answer_id: str, **options: Unpack[ReadOptions]) -> AnswerStream:
        """Returns the events of an answer that was begun before, from its start; live while it is being written.

        Args:
            answer_id: The answer's, as `Started` told it.
            options: `student_id`, `timeout`, as in `ask`.

        Raises:
            InvalidRequestError: It can be no answer's id.
        """
        return self._stream(self._settings.resuming(answer_id, options))

    def stop(self, answer_id: str, *, student_id: str | None = None) -> None:
        """Stops an answer, for all who read it: they get `Finished` with the text so far. Also when it has ended.

        Raises:
            StudyAIError: It cannot be stopped: there is none, or the service cannot be reached.
        """
        self._transport.stop(checked(answer_id), self._settings.student(student_id))

    def close(self) -> None:
        """Closes every connection; streams that are open fail."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, progress: Progress) -> AnswerStream:
        return AnswerStream(progress, self._transport, self._settings)


class AnswerStream:
    """The events of one answer, as they come. Close it, or leave its `with` block, to leave: the connection is closed.

    The service stops an answer that nobody reads within half a minute; `StudyAI.stop` does at once.
    """

    def __init__(self, progress: Progress, transport: Transport, settings: Settings) -> None:
        self._progress = progress
        self._transport = transport
        self._settings = settings
        self._events = self._run()

    @property
    def text(self) -> str:
        """All text so far."""
        return self._progress.text

    @property
    def answer_id(self) -> str | None:
        """The answer's, once it has begun: for `resume` and `stop`."""
        return self._progress.answer_id

    def read(self) -> Answer:
        """Reads what is left, and returns the whole answer.

        Raises:
            StudyAIError: It did not come to its end; `partial_text` has what came.
        """
        for _ in self._events:
            pass
        return self._progress.answer

    def close(self) -> None:
        """Leaves."""
        self._events.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> Generator[Event]:
        while not self._progress.finished:
            try:
                yield from self._attempt()
            except StudyAIError as error:
                pause = self._progress.failed(error)
                self._settings.retrying(error, pause)
                time.sleep(pause)

    def _attempt(self) -> Generator[Event]:
        step = self._progress.next_step()
        if isinstance(step, Complete):
            yield from self._progress.take_whole(self._transport.complete(step, self._progress.deadline))
            return
        with closing(self._transport.stream(step, self._progress.deadline)) as events:
            for numbered in events:
                if event := self._progress.take(numbered):
                    yield event
                if self._progress.finished:
                    return
        raise ended_early()

"""Steps over gRPC: the calls of both clients. What is said in them is in `grpc_wire`.

Leaving a stream does not end its call: every call is cancelled when its step is over.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from studyai.v1 import chat_pb2_grpc

from studyai_client import grpc_wire as wire
from studyai_client.errors import ConnectionLostError
from studyai_client.options import STOP_SECONDS, Deadline
from studyai_client.progress import Ask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from studyai_client.events import Answer
    from studyai_client.options import Address, Tls
    from studyai_client.progress import Complete, Numbered, Resume

_CLOSED = "The client has been closed."
"""What grpcio says of a closed channel in three ways, one for each kind of call."""


class _Calls:
    """A channel, and how a step's call on it is begun: alike for those who block and those who await.

    Args:
        library: `grpc` or `grpc.aio`.
        address: Where the engine is.
        token: Its service token.
        tls: How to know it.
    """

    def __init__(self, library: Any, address: Address, token: str | None, tls: Tls) -> None:
        self._target, options = address.grpc_target or "", wire.options(tls)
        if address.tls:
            self._channel = library.secure_channel(self._target, wire.credentials(tls), options)
        else:
            self._channel = library.insecure_channel(self._target, options)
        self._stub: Any = chat_pb2_grpc.ChatServiceStub(self._channel)
        self._arguments = wire.CallArguments(token)
        self._closed = False

    def _open(self) -> Any:
        if self._closed:
            raise RuntimeError(_CLOSED)
        return self._stub

    def _begin(self, step: Ask | Resume, deadline: Deadline) -> Any:
        if isinstance(step, Ask):
            return self._open().ChatImage(wire.asked(step), **self._arguments.given(deadline, again=step.again))
        return self._open().ResumeAnswer(wire.resumed(step), **self._arguments.given(deadline))


class GrpcTransport(_Calls):
    """Blocks while it waits."""

    def __init__(self, address: Address, token: str | None, tls: Tls) -> None:
        super().__init__(grpc, address, token, tls)

    def stream(self, step: Ask | Resume, deadline: Deadline) -> Generator[Numbered]:
        """Yields the events as they come. Close it to cancel the call.

        Raises:
            StudyAIError: They ended early, or did not begin.
        """
        call, begun = self._begin(step, deadline), False
        try:
            with wire.told_as_ours(self._target, lambda: begun, lambda: wire.request_id_in(call.initial_metadata())):
                for message in call:
                    begun = True
                    if numbered := wire.event_of(message):
                        yield numbered
        finally:
            call.cancel()

    def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """Returns the whole answer.

        Raises:
            StudyAIError: There is none.
        """
        call = self._open().CompleteChatImage.future(
            wire.asked_whole(step), **self._arguments.given(deadline, again=step.again)
        )
        try:
            with wire.told_as_ours(self._target, lambda: False, lambda: wire.request_id_in(call.initial_metadata())):
                return wire.answer_of(call.result())
        finally:
            call.cancel()

    def stop(self, answer_id: str, student_id: str) -> None:
        """Stops an answer.

        Raises:
            StudyAIError: It cannot be.
        """
        given = self._arguments.given(Deadline(STOP_SECONDS))
        with wire.told_as_ours(self._target, lambda: False, lambda: None):
            self._open().StopAnswer(wire.stopped(answer_id, student_id), **given)

    def close(self) -> None:
        """Closes the channel."""
        self._closed = True
        self._channel.close()


class AsyncGrpcTransport(_Calls):
    """The same for asyncio. To be made in the loop it is used in."""

    def __init__(self, address: Address, token: str | None, tls: Tls) -> None:
        super().__init__(grpc.aio, address, token, tls)

    async def stream(self, step: Ask | Resume, deadline: Deadline) -> AsyncGenerator[Numbered]:
        """See `GrpcTransport.stream`."""
        call, begun, request_id = self._begin(step, deadline), False, None
        try:
            with _cancelled_by_caller(deadline), wire.told_as_ours(self._target, lambda: begun, lambda: request_id):
                request_id = wire.request_id_in(await call.initial_metadata())
                async for message in call:
                    begun = True
                    if numbered := wire.event_of(message):
                        yield numbered
        finally:
            call.cancel()

    async def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """See `GrpcTransport.complete`."""
        given = self._arguments.given(deadline, again=step.again)
        call, request_id = self._open().CompleteChatImage(wire.asked_whole(step), **given), None
        try:
            with _cancelled_by_caller(deadline), wire.told_as_ours(self._target, lambda: False, lambda: request_id):
                request_id = wire.request_id_in(await call.initial_metadata())
                return wire.answer_of(await call)
        finally:
            call.cancel()

    async def stop(self, answer_id: str, student_id: str) -> None:
        """See `GrpcTransport.stop`."""
        given = self._arguments.given(Deadline(STOP_SECONDS))
        with wire.told_as_ours(self._target, lambda: False, lambda: None):
            await self._open().StopAnswer(wire.stopped(answer_id, student_id), **given)

    async def aclose(self) -> None:
        """Closes the channel."""
        self._closed = True
        await self._channel.close()


@contextmanager
def _cancelled_by_caller(deadline: Deadline) -> Iterator[None]:
    """Tells the caller's cancelling from gRPC's, which raises the same where a channel or a deadline ends early."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        deadline.remaining()
        raise ConnectionLostError("The connection to the engine broke.", retryable=True) from None

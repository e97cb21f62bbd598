"""What a client needs of a wire, and which one an address asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from studyai_client.http import AsyncHttpTransport, HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from types import ModuleType

    from studyai_client.events import Answer
    from studyai_client.options import Address, Deadline, Tls
    from studyai_client.progress import Ask, Complete, Numbered, Resume


class Transport(Protocol):
    """Carries out steps, and blocks meanwhile. Failures are `StudyAIError`s."""

    def stream(self, step: Ask | Resume, deadline: Deadline) -> Generator[Numbered]:
        """Yields the events as they come. Close it to let go of the connection."""

    def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """Returns the whole answer."""

    def stop(self, answer_id: str, student_id: str) -> None:
        """Stops an answer."""

    def close(self) -> None:
        """Closes every connection."""


class AsyncTransport(Protocol):
    """The same for asyncio."""

    def stream(self, step: Ask | Resume, deadline: Deadline) -> AsyncGenerator[Numbered]:
        """See `Transport`."""

    async def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """See `Transport`."""

    async def stop(self, answer_id: str, student_id: str) -> None:
        """See `Transport`."""

    async def aclose(self) -> None:
        """See `Transport`."""


def transport_to(address: Address, token: str | None, tls: Tls) -> Transport:
    """Returns the wire for an address.

    Raises:
        ImportError: It is gRPC, which is not installed.
    """
    if address.grpc_target is None:
        return HttpTransport(address, token, tls)
    made: Transport = _grpc_calls().GrpcTransport(address, token, tls)
    return made


def async_transport_to(address: Address, token: str | None, tls: Tls) -> AsyncTransport:
    """The same for asyncio; to be called in the loop."""
    if address.grpc_target is None:
        return AsyncHttpTransport(address, token, tls)
    made: AsyncTransport = _grpc_calls().AsyncGrpcTransport(address, token, tls)
    return made


def _grpc_calls() -> ModuleType:
    try:
        from studyai_client import grpc_calls  # noqa: PLC0415 - gRPC is an extra, and takes a while to load
    except ModuleNotFoundError as error:
        raise ImportError("grpc:// needs an extra: pip install './clients/python[grpc]'") from error
    return grpc_calls

"""Steps over HTTP: the connections of both clients. What is said on them is in `http_wire`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from studyai_client import http_wire as wire
from studyai_client.options import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from studyai_client.events import Answer
    from studyai_client.options import Address, Tls
    from studyai_client.progress import Ask, Complete, Numbered, Resume


class HttpTransport:
    """Blocks while it waits."""

    def __init__(self, address: Address, token: str | None, tls: Tls) -> None:
        self._client = httpx2.Client(**wire.client_arguments(address, token, tls))
        self._extensions = wire.extensions(tls)

    def stream(self, step: Ask | Resume, deadline: Deadline) -> Generator[Numbered]:
        """Yields the events as they come. Close it to close the connection.

        Raises:
            StudyAIError: They ended early, or did not begin.
        """
        request = wire.stream_request(step, deadline)
        with (
            wire.told_as_ours(deadline),
            self._client.stream(**request.arguments, extensions=self._extensions) as reply,
        ):
            if not wire.is_stream(reply):
                reply.read()
                raise wire.refusal(reply, streaming=True)
            for told in httpx2.EventSource(reply):
                if numbered := wire.event_of(told):
                    yield numbered

    def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """Returns the whole answer.

        Raises:
            StudyAIError: There is none.
        """
        return wire.answer_of(self._request(wire.complete_request(step, deadline), deadline))

    def stop(self, answer_id: str, student_id: str) -> None:
        """Stops an answer.

        Raises:
            StudyAIError: It cannot be.
        """
        self._request(wire.stop_request(answer_id, student_id), Deadline(None))

    def close(self) -> None:
        """Closes every connection."""
        self._client.close()

    def _request(self, request: wire.HttpRequest, deadline: Deadline) -> bytes:
        with wire.told_as_ours(deadline):
            reply = self._client.request(**request.arguments, extensions=self._extensions)
        if not reply.is_success:
            raise wire.refusal(reply, streaming=False)
        return reply.content


class AsyncHttpTransport:
    """The same for asyncio."""

    def __init__(self, address: Address, token: str | None, tls: Tls) -> None:
        self._client = httpx2.AsyncClient(**wire.client_arguments(address, token, tls))
        self._extensions = wire.extensions(tls)

    async def stream(self, step: Ask | Resume, deadline: Deadline) -> AsyncGenerator[Numbered]:
        """See `HttpTransport.stream`."""
        request = wire.stream_request(step, deadline)
        with wire.told_as_ours(deadline):
            async with self._client.stream(**request.arguments, extensions=self._extensions) as reply:
                if not wire.is_stream(reply):
                    await reply.aread()
                    raise wire.refusal(reply, streaming=True)
                async for told in httpx2.EventSource(reply):
                    if numbered := wire.event_of(told):
                        yield numbered

    async def complete(self, step: Complete, deadline: Deadline) -> Answer:
        """See `HttpTransport.complete`."""
        return wire.answer_of(await self._request(wire.complete_request(step, deadline), deadline))

    async def stop(self, answer_id: str, student_id: str) -> None:
        """See `HttpTransport.stop`."""
        await self._request(wire.stop_request(answer_id, student_id), Deadline(None))

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    async def _request(self, request: wire.HttpRequest, deadline: Deadline) -> bytes:
        with wire.told_as_ours(deadline):
            reply = await self._client.request(**request.arguments, extensions=self._extensions)
        if not reply.is_success:
            raise wire.refusal(reply, streaming=False)
        return reply.content

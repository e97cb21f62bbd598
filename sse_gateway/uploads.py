"""How much of the questions on their way may be in memory at once.

Bytes are counted as they arrive, not as they are announced, so that a client that sends little holds little, however
much it says is to come. Over the limit uploads wait, unread, so that the network holds them up; one of them at a time
may still grow, or uploads that are all half there would wait for each other for ever.
"""

from __future__ import annotations

import asyncio

from sse_gateway.errors import ErrorCode, GatewayError

_WAIT_SECONDS = 20.0
"""How long an upload waits for its turn before it is told to come back."""


class Upload:
    """One question's bytes, held until they are released.

    Args:
        memory: All uploads'.
        expected: How many bytes it will have, as far as is known.
    """

    __slots__ = ("_memory", "expected", "held")

    def __init__(self, memory: UploadMemory, expected: int) -> None:
        self._memory = memory
        self.held = 0
        self.expected = expected

    @property
    def missing(self) -> int:
        """How many bytes are to come, as far as is known."""
        return self.expected - self.held

    async def grow(self, size: int) -> None:
        """Takes so many bytes more, when there is room.

        Raises:
            GatewayError: OVERLOADED, there was none for long.
        """
        await self._memory.take(self, size)

    def release(self) -> None:
        """Lets all of it go. Once is enough, more does no harm."""
        self._memory.give_back(self)


class UploadMemory:
    """What all uploads hold together.

    Args:
        limit: In bytes; exceeded by at most one upload.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._over_limit: Upload | None = None
        self._waiting: dict[Upload, asyncio.Future[None]] = {}
        self.held = 0
        """Bytes in memory now."""

    @property
    def waiting(self) -> int:
        """How many uploads wait for room."""
        return len(self._waiting)

    async def take(self, upload: Upload, size: int) -> None:
        """See `Upload.grow`."""
        if not self._let_in(upload, size):
            await self._room(upload, size)
        self.held += size
        upload.held += size

    def give_back(self, upload: Upload) -> None:
        """See `Upload.release`."""
        self.held -= upload.held
        upload.held = 0
        if self._over_limit is upload:
            self._over_limit = None
        # First who needs least to be complete, and so to let go in turn. Who finds no room waits again.
        for waiting in sorted(self._waiting, key=lambda other: other.missing):
            if not self._waiting[waiting].done():
                self._waiting[waiting].set_result(None)
        self._waiting.clear()

    def _let_in(self, upload: Upload, size: int) -> bool:
        """Whether it may take so many bytes; over the limit the first to ask may, until it lets go."""
        if self.held + size <= self._limit:
            return True
        self._over_limit = self._over_limit or upload
        return self._over_limit is upload

    async def _room(self, upload: Upload, size: int) -> None:
        """Waits until there is room.

        Raises:
            GatewayError: OVERLOADED.
        """
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while not self._let_in(upload, size):
                    await self._release(upload)
        except TimeoutError:
            raise GatewayError(ErrorCode.OVERLOADED) from None

    async def _release(self, upload: Upload) -> None:
        """Waits until another upload lets go."""
        self._waiting[upload] = asyncio.get_running_loop().create_future()
        try:
            await self._waiting[upload]
        finally:
            self._waiting.pop(upload, None)

"""What engines tell each other: stop an answer, somebody reads it here, nobody does any more.

Readers elsewhere are counted as one reader for each engine, for as long as that engine says so again and again. So
the rules for giving up an answer know nothing of engines, and those that died or lost Redis stop counting.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from engine_grpc.redis_link import BLOCKED_READ_SECONDS, UnreachableError
from engine_grpc.redis_scripts import channel_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from engine_grpc.answers import Answer, Reader
    from engine_grpc.redis_link import RedisLink
    from engine_grpc.redis_mirror import Mirrored

log = structlog.get_logger(__name__)

BEAT_SECONDS = 0.5
"""How often an engine says that it reads an answer."""
_READS_SECONDS = 2.5
"""How long it counts as a reader after it said so last."""
_RETRY_SECONDS = 0.25
_SILENCE_SECONDS = 4


class RemoteReaders:
    """The readers that other engines have of this engine's answers."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[AbstractContextManager[Reader], asyncio.TimerHandle]] = {}

    def read(self, answer: Answer, engine_id: str) -> None:
        """Another engine has readers of the answer now."""
        name = (answer.started.answer_id, engine_id)
        reader, timer = self._held.get(name, (None, None))
        if timer:
            timer.cancel()
        if reader is None:
            reader = answer.reader()
            reader.__enter__()
        self._held[name] = reader, asyncio.get_running_loop().call_later(_READS_SECONDS, self.left, *name)

    def left(self, answer_id: str, engine_id: str) -> None:
        """Another engine has no readers of the answer any more."""
        if (answer_id, engine_id) in self._held:
            reader, timer = self._held.pop((answer_id, engine_id))
            timer.cancel()
            reader.__exit__(None, None, None)

    def close(self) -> None:
        """Counts none any more."""
        for name in [*self._held]:
            self.left(*name)


class Control:
    """Listens to the other engines, and talks to them.

    Args:
        link: The way to Redis.
        engine_id: Of this engine.
        answers: The answers that others may read and stop, by id.
        on_unknown: Called with the id of an answer that others take for one of those, and is not.
    """

    def __init__(
        self, link: RedisLink, engine_id: str, answers: dict[str, Mirrored], on_unknown: Callable[[str], None]
    ) -> None:
        self._link = link
        self._engine_id = engine_id
        self._answers = answers
        self._on_unknown = on_unknown
        self._readers = RemoteReaders()

    async def run(self) -> None:
        """Listens for ever."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                self._link.failed(error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def say(self, engine_id: str, word: str, answer_id: str) -> None:
        """Tells another engine something about one of its answers.

        Raises:
            UnreachableError: Redis cannot be reached.
        """
        await self._link.run(lambda client: client.publish(channel_name(engine_id), self.message(word, answer_id)))

    def message(self, word: str, answer_id: str) -> str:
        """What is said: `stop`, `read` or `left`, the answer, and by whom."""
        return f"{word} {answer_id} {self._engine_id}"

    async def say_left(self, engine_id: str, answer_id: str) -> None:
        """Tells another engine that nobody here reads its answer any more. Unheard, it finds out by itself."""
        try:
            await self.say(engine_id, "left", answer_id)
        except UnreachableError:
            return

    def close(self) -> None:
        """Counts no readers of other engines any more."""
        self._readers.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._link.blocking.pubsub() as pubsub:
            async with asyncio.timeout(BLOCKED_READ_SECONDS):
                await pubsub.subscribe(channel_name(self._engine_id))
            heard = loop.time()
            while True:
                message = await pubsub.get_message(timeout=1)
                if message:
                    heard = loop.time()
                    self._obey(message)
                elif loop.time() - heard > _SILENCE_SECONDS:
                    raise RedisConnectionError
                else:
                    await pubsub.ping()

    def _obey(self, message: dict[str, object]) -> None:
        if message["type"] != "message" or not isinstance(message["data"], bytes):
            return
        try:
            word, answer_id, engine_id = message["data"].decode().split(" ")
        except ValueError:  # not three words, or not UTF-8
            log.warning("a message to this engine is not understood")
            return
        mirrored = self._answers.get(answer_id)
        if word == "left":
            self._readers.left(answer_id, engine_id)
        elif mirrored is None:
            self._on_unknown(answer_id)
        elif word == "read":
            self._readers.read(mirrored.answer, engine_id)
        elif word == "stop":
            mirrored.stop()

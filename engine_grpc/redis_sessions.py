"""Chat context that all engines share.

A session is a list of turns and a picture under names that are hashes; the values are what the student wrote and
sent, and expire together. What this engine writes it also keeps in its own memory, for when Redis cannot be reached
or has lost it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from engine_grpc.errors import EngineError, Reason
from engine_grpc.image.picture import Picture
from engine_grpc.redis_link import UnreachableError
from engine_grpc.redis_scripts import REMEMBER_TURN, session_name
from engine_grpc.sessions import MAX_TURNS, Context, MemorySessions, Turn

if TYPE_CHECKING:
    from engine_grpc.redis_link import Client, RedisLink

_PICTURE_SECONDS = 5
"""For writing a picture, beside the stream."""


class RedisSessions:
    """Implements `Sessions`.

    Args:
        link: The way to Redis.
        ttl: Seconds after its last use until a session is forgotten.
    """

    def __init__(self, link: RedisLink, ttl: float) -> None:
        self._link = link
        self._ttl_ms = max(1, round(ttl * 1000))
        self._own = MemorySessions(ttl)

    async def load(self, student_id: str, session_id: str, *, with_picture: bool = True) -> Context:
        """Returns what the session remembers; see `Sessions`."""
        own = await self._own.load(student_id, session_id)
        try:
            found = await self._link.run(lambda client: self._load(client, student_id, session_id, with_picture))
        except UnreachableError:
            if with_picture and own.picture is None:
                raise EngineError(Reason.ENGINE_UNAVAILABLE) from None
            return own
        return replace(found, turns=found.turns or own.turns, picture=found.picture or own.picture)

    async def remember_picture(self, student_id: str, session_id: str, picture: Picture) -> None:
        """Makes `picture` the session's last; see `Sessions`."""
        await self._own.remember_picture(student_id, session_id, picture)
        name = f"{session_name(student_id, session_id)}:picture"
        try:
            await self._link.run(lambda client: client.set(name, _encode(picture), px=self._ttl_ms), _PICTURE_SECONDS)
        except UnreachableError:
            return

    async def remember_turn(self, student_id: str, session_id: str, turn: Turn) -> None:
        """Adds a turn; see `Sessions`."""
        await self._own.remember_turn(student_id, session_id, turn)
        name = f"{session_name(student_id, session_id)}:turns"
        value = f"{turn.answer_id}{json.dumps([turn.question, turn.answer])}"
        arguments = (value, turn.answer_id, MAX_TURNS, self._ttl_ms)
        try:
            await self._link.run(lambda client: client.eval(REMEMBER_TURN, 1, name, *arguments))
        except UnreachableError:
            return

    async def _load(self, client: Client, student_id: str, session_id: str, with_picture: bool) -> Context:
        name = session_name(student_id, session_id)
        pipeline = client.pipeline(transaction=True)
        pipeline.lrange(f"{name}:turns", 0, -1)
        pipeline.pexpire(f"{name}:turns", self._ttl_ms)
        pipeline.pexpire(f"{name}:picture", self._ttl_ms)
        if with_picture:
            pipeline.get(f"{name}:picture")
        turns, _, _, *picture = await pipeline.execute()
        return Context(tuple(map(_decode_turn, turns)), _decode(picture[0]) if picture and picture[0] else None)


def _decode_turn(value: bytes) -> Turn:
    answer_id, bracket, rest = value.decode().partition("[")
    question, answer = json.loads(bracket + rest)
    return Turn(question, answer, answer_id)


def _encode(picture: Picture) -> bytes:
    return json.dumps([picture.mime, picture.width, picture.height]).encode() + b"\n" + picture.data


def _decode(value: bytes) -> Picture:
    head, _, data = value.partition(b"\n")
    mime, width, height = json.loads(head)
    return Picture(mime=mime, width=width, height=height, data=data)

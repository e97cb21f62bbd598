from __future__ import annotations

import asyncio

from engine_grpc.image import Picture
from engine_grpc.sessions import MAX_TURNS, Context, MemorySessions, Turn
from tests.waiting import until


def picture(size: int) -> Picture:
    return Picture(mime="image/png", width=1, height=1, data=b"x" * size)


async def test_last_turns_are_kept_oldest_first() -> None:
    sessions = MemorySessions(ttl=60)
    for number in range(MAX_TURNS + 3):
        await sessions.remember_turn("anna", "s", Turn(f"q{number}", "a"))
    context = await sessions.load("anna", "s")
    assert [turn.question for turn in context.turns] == [f"q{number}" for number in range(3, MAX_TURNS + 3)]


async def test_least_recently_used_session_goes_when_there_is_no_room() -> None:
    sessions = MemorySessions(ttl=60, max_bytes=250)
    for name in ("a", "b"):
        await sessions.remember_picture("anna", name, picture(100))
    await sessions.remember_turn("anna", "a", Turn("q", "a"))
    await sessions.remember_picture("anna", "c", picture(100))
    assert [(await sessions.load("anna", name)).picture is not None for name in "abc"] == [True, False, True]


async def test_session_is_forgotten_after_its_time() -> None:
    sessions = MemorySessions(ttl=0.02)
    remembered = asyncio.get_running_loop().time()
    await sessions.remember_turn("anna", "s", Turn("q", "a"))

    async def forgotten() -> bool:
        return await sessions.load("anna", "s") == Context()

    await until(forgotten)
    assert asyncio.get_running_loop().time() - remembered > 0.02


async def test_replaced_picture_takes_no_room() -> None:
    sessions = MemorySessions(ttl=60, max_bytes=250)
    await sessions.remember_picture("anna", "other", picture(100))
    for _ in range(10):
        await sessions.remember_picture("anna", "s", picture(100))
    assert (await sessions.load("anna", "other")).picture is not None

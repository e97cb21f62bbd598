from __future__ import annotations

from typing import TYPE_CHECKING

from engine_grpc.image import Picture
from engine_grpc.sessions import MAX_TURNS, Context, MemorySessions, Turn

if TYPE_CHECKING:
    from tests.engine.harness import Clock


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


async def test_session_that_is_only_read_is_not_the_one_that_goes() -> None:
    sessions = MemorySessions(ttl=60, max_bytes=250)
    for name in ("a", "b"):
        await sessions.remember_picture("anna", name, picture(100))
    await sessions.load("anna", "a")
    await sessions.remember_picture("anna", "c", picture(100))
    assert [(await sessions.load("anna", name)).picture is not None for name in "abc"] == [True, False, True]


async def test_session_is_forgotten_when_it_was_not_read_for_its_time(clock: Clock) -> None:
    sessions = MemorySessions(ttl=60, clock=clock)
    await sessions.remember_turn("anna", "s", Turn("q", "a"))
    for _ in range(3):
        clock.now += 59
        assert (await sessions.load("anna", "s")).turns
    clock.now += 61
    assert await sessions.load("anna", "s") == Context()


async def test_replaced_picture_takes_no_room() -> None:
    sessions = MemorySessions(ttl=60, max_bytes=250)
    await sessions.remember_picture("anna", "other", picture(100))
    for _ in range(10):
        await sessions.remember_picture("anna", "s", picture(100))
    assert (await sessions.load("anna", "other")).picture is not None

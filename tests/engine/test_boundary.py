"""The moments at the end of a call: its caller leaves, or the engine does, while it is being refused."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from engine_grpc import interceptors
from engine_grpc.errors import EngineError, Reason
from engine_grpc.interceptors import CallBoundary


class LeftCaller:
    """The context of a call whose caller has left: gRPC finds out a little after nothing could be sent."""

    def __init__(self) -> None:
        self.known_to_have_left = False

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort_with_status(self, _status: object) -> None:
        asyncio.get_running_loop().call_later(0.01, setattr, self, "known_to_have_left", True)
        raise grpc.aio.InternalError


async def refuse(_arrival: object, _context: object) -> None:
    raise EngineError(Reason.OVERLOADED)


def wrapped(boundary: CallBoundary) -> Any:
    """A method that refuses, as gRPC is given it."""
    handler = grpc.unary_unary_rpc_method_handler(refuse, bytes, bytes)

    async def continuation(_details: object) -> Any:
        return handler

    details = cast("Any", type("Details", (), {"method": "/service/Method"}))
    return boundary.intercept_service(continuation, details)


async def test_failure_to_refuse_a_caller_goes_to_grpc_when_it_knows_that_the_caller_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interceptors, "_LEAVING_SECONDS", 0.1)
    method = await wrapped(CallBoundary("service"))
    caller = LeftCaller()
    with pytest.raises(grpc.aio.InternalError):
        await method.stream_unary(None, caller)
    assert caller.known_to_have_left


class SlowlyToldCaller:
    """The context of a call whose caller takes a while to be told of its end."""

    def __init__(self) -> None:
        self.being_told, self.told = asyncio.Event(), asyncio.Event()

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort_with_status(self, _status: object) -> None:
        self.being_told.set()
        await self.told.wait()
        raise grpc.aio.AbortError


async def test_engine_is_idle_only_when_the_last_caller_has_been_told_how_its_call_ended() -> None:
    boundary = CallBoundary("service")
    method = await wrapped(boundary)
    caller = SlowlyToldCaller()
    call = asyncio.ensure_future(method.stream_unary(None, caller))
    await caller.being_told.wait()
    idle = asyncio.ensure_future(boundary.idle())
    done, _ = await asyncio.wait({idle}, timeout=0.05)
    assert not done
    caller.told.set()
    async with asyncio.timeout(5):
        await idle
        with pytest.raises(grpc.aio.AbortError):
            await call

"""A caller that leaves while it is refused, at the moment when gRPC cannot send to it and does not know yet why."""

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


async def test_failure_to_refuse_a_caller_goes_to_grpc_when_it_knows_that_the_caller_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interceptors, "_LEAVING_SECONDS", 0.1)
    handler = grpc.unary_unary_rpc_method_handler(refuse, bytes, bytes)

    async def continuation(_details: object) -> Any:
        return handler

    details = cast("Any", type("Details", (), {"method": "/service/Method"}))
    wrapped: Any = await CallBoundary("service").intercept_service(continuation, details)
    caller = LeftCaller()
    with pytest.raises(grpc.aio.InternalError):
        await wrapped.stream_unary(None, caller)
    assert caller.known_to_have_left

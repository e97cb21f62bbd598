"""How a reply leaves, and what of HTTP a request may rely on."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.gateway.wire import FALLBACK, STREAM, Connection, connect

if TYPE_CHECKING:
    from tests.gateway.conftest import RunningGateway
    from tests.gateway.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"header_timeout_seconds": 0.2, "body_timeout_seconds": 0.2}


def segments(client: Connection) -> int:
    """How many segments with data have come; see struct tcp_info of Linux."""
    info = client.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (count,) = struct.unpack_from("I", info, 152)
    return int(count)


async def test_head_leaves_with_the_first_event(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.streaming(engine) as (client, call):
        assert segments(client) == 1
        await call.text("This")
        await client.read_event()
        assert segments(client) == 2
        await call.finish()


@pytest.mark.parametrize("path", ["/healthz", "/unknown"])
async def test_reply_leaves_as_one(gateway: RunningGateway, path: str) -> None:
    async with gateway.get(path) as client:
        await client.read_json()
        assert segments(client) == 1


async def test_head_that_is_asked_for_alone_comes_alone(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        await client.send("HEAD", "/healthz")
        await client.read_head()
        await client.send("GET", "/healthz")
        await client.read_head()
    assert client.status == 200


async def test_client_that_waits_to_be_told_to_go_on_is(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        await client.send_head("POST", FALLBACK, content_length="2", expect="100-continue")
        await client.read_head()
        assert client.status == 100
        client.writer.write(b"{}")
        await client.read_head()
    assert client.status == 400


async def test_white_space_behind_a_header_is_no_part_of_it(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        client.writer.write(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\nx-request-id: req-1 \t\r\n\r\n")
        await client.read_head()
    assert client.headers["x-request-id"] == "req-1"


async def test_connection_that_is_to_be_closed_is_though_another_protocol_is_offered(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        await client.send("GET", "/healthz", connection="close, Upgrade", upgrade="h2c")
        await client.read_head()
        assert client.headers["connection"] == "close"


async def test_method_that_a_path_does_not_have_is_told_with_all_that_it_has(gateway: RunningGateway) -> None:
    async with connect(gateway.port) as client:
        await client.send("POST", "/api/ai/answers/0f4c")
        await client.read_head()
    assert (client.status, client.headers["allow"]) == (405, "delete, get")


async def test_path_with_a_slash_behind_it_is_another(gateway: RunningGateway) -> None:
    async with gateway.post(STREAM + "/") as client:
        await client.read_head()
        assert (client.status, (await client.read_json())["code"]) == (404, "INVALID_REQUEST")

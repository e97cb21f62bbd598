"""How a reply's body comes from the socket, apart from what is in it."""

from __future__ import annotations

from openai import AsyncOpenAI

from engine_grpc.openai_transport import Body, Transport
from tests import upstream as up
from tests.upstream import Upstream
from tests.waiting import until

MEBIBYTE = 1024 * 1024


async def test_body_that_nobody_reads_for_a_while_is_held_up_and_whole_afterwards() -> None:
    sent = bytes(range(256)) * (32 * MEBIBYTE // 256)
    async with Upstream() as upstream:
        upstream.script(up.stream_headers(), up.raw(sent[: 8 * MEBIBYTE]), up.raw(sent[8 * MEBIBYTE :]))
        transport = Transport(AsyncOpenAI(api_key="sk-x", base_url=upstream.base_url), max_connections=1)
        response = await transport.post(b"{}", {})
        await until(lambda: response.content.total_bytes > MEBIBYTE // 2)
        body, received = Body(response), bytearray()
        while piece := await body.read():
            assert len(piece) <= MEBIBYTE
            received += piece
        assert received == sent
        await transport.aclose()

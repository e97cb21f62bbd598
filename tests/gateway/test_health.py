from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2

from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.fake_engine import FakeEngine, fake_engine

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_gateway_that_lives_says_so(gateway: RunningGateway) -> None:
    async with gateway.get("/healthz") as client:
        assert (client.status, await client.read_json()) == (200, {"status": "ok"})


async def test_gateway_is_ready_while_the_engine_serves(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.get("/readyz") as client:
        assert (client.status, await client.read_json()) == (200, {"status": "ok"})
    await engine.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    async with gateway.get("/readyz") as client:
        assert (client.status, await client.read_json()) == (503, {"status": "unavailable", "failed": ["engine"]})
    await engine.health.set("", health_pb2.HealthCheckResponse.SERVING)
    async with gateway.get("/readyz") as client:
        assert client.status == 200


async def test_gateway_without_an_engine_lives_but_is_not_ready() -> None:
    async with fake_engine() as engine:
        url = engine.url
    async with running_gateway(url) as gateway:
        async with gateway.get("/healthz") as client:
            assert client.status == 200
        async with gateway.get("/readyz") as client:
            assert (client.status, await client.read_json()) == (503, {"status": "unavailable", "failed": ["engine"]})


async def test_draining_gateway_is_not_ready(gateway: RunningGateway) -> None:
    gateway.lifecycle.draining = True
    async with gateway.get("/readyz") as client:
        assert (client.status, await client.read_json()) == (503, {"status": "unavailable", "failed": ["draining"]})
    gateway.lifecycle.draining = False

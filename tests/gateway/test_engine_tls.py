"""The gateway in front of an engine that knows its callers: what gets through, and what the operator is told if not."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests import upstream as up
from tests.certificates import Authority
from tests.engine.harness import WORKSHEET, running_engine
from tests.gateway.conftest import logged, running_gateway
from tests.gateway.wire import FALLBACK, STREAM, encoded, events_in, question
from tests.processes import Process, free_port, running_gateway_process, wait_until_ready
from tests.upstream import running_upstream
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.gateway.conftest import RunningGateway
    from tests.upstream import Upstream

OURS, OTHERS = Authority(), Authority()
TOKEN, OTHER_TOKEN = "canary-right-0123456789abcdefghijkl", "canary-wrong-0123456789abcdefghijkl"
PICTURE = base64.b64encode(WORKSHEET).decode()
ANSWER = "x is 5."


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with up.Upstream() as running:
        running.default(*up.answer(ANSWER, usage=(1, 1)))
        yield running


class Files:
    """The files of an engine and of a gateway, as settings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def engine(self, *names: str, mutual: bool = False) -> dict[str, Any]:
        certificate, key = OURS.issue(*names).write(self._folder, "engine")
        settings = {"engine_tls_cert_file": certificate, "engine_tls_key_file": key}
        if mutual:
            settings["engine_tls_client_ca_file"] = OURS.write(self._folder / "callers.pem")
        return settings

    def gateway(self, authority: Authority = OURS, own: Authority | None = None) -> dict[str, Any]:
        settings = {"ai_engine_tls_ca_file": authority.write(self._folder / "engines.pem")}
        if own:
            certificate, key = own.issue("gateway").write(self._folder, "gateway")
            settings |= {"ai_engine_tls_cert_file": certificate, "ai_engine_tls_key_file": key}
        return settings


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@asynccontextmanager
async def between(
    upstream: Upstream, engine: dict[str, Any], gateway: dict[str, Any], url: str = "https://localhost"
) -> AsyncIterator[RunningGateway]:
    """A gateway with some settings in front of an engine with others."""
    async with (
        running_engine(upstream, **engine) as behind,
        running_gateway(f"{url}:{behind.port}", **gateway) as running,
    ):
        yield running


async def asked(gateway: RunningGateway) -> tuple[int, Any]:
    async with gateway.post(FALLBACK, question(base64_image=PICTURE)) as client:
        await client.read_head()
        return client.status, await client.read_json()


async def is_ready(gateway: RunningGateway) -> bool:
    async with gateway.get("/readyz") as client:
        return client.status == 200


@pytest.mark.parametrize("url", ["https://localhost", "https://127.0.0.1", "dns:///localhost"])
async def test_answer_comes_over_mutual_tls_with_a_token(upstream: Upstream, files: Files, url: str) -> None:
    engine = files.engine(mutual=True) | {"service_token": TOKEN}
    async with between(upstream, engine, files.gateway(own=OURS) | {"service_token": TOKEN}, url) as gateway:
        assert await is_ready(gateway)
        status, reply = await asked(gateway)
    assert (status, reply["response"]) == (200, ANSWER)


async def test_certificate_may_name_something_else_than_the_url(upstream: Upstream, files: Files) -> None:
    settings = files.gateway() | {"ai_engine_tls_server_name": "engine.internal"}
    async with between(upstream, files.engine("engine.internal"), settings, "https://127.0.0.1") as gateway:
        assert (await asked(gateway))[0] == 200


async def test_gateway_shows_the_first_of_several_tokens(upstream: Upstream, files: Files) -> None:
    for shown, ready in ((f"{TOKEN},{OTHER_TOKEN}", True), (f"{OTHER_TOKEN},{TOKEN}", False)):
        settings = files.gateway() | {"service_token": shown}
        async with between(upstream, files.engine() | {"service_token": TOKEN}, settings) as gateway:
            assert await is_ready(gateway) is ready


MISFITS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, str, str]] = {
    "other authority": ({}, {"authority": OTHERS}, "https://localhost", "AI_ENGINE_TLS_CA_FILE"),
    "other name": ({"names": ("elsewhere",)}, {}, "https://localhost", "AI_ENGINE_TLS_SERVER_NAME"),
    "other name of many": ({"names": ("elsewhere",)}, {}, "dns:///localhost", "AI_ENGINE_TLS_SERVER_NAME"),
    "no certificate": ({"mutual": True}, {}, "https://localhost", "AI_ENGINE_TLS_CERT_FILE"),
    "certificate of others": ({"mutual": True}, {"own": OTHERS}, "https://localhost", "AI_ENGINE_TLS_CERT_FILE"),
    "no TLS here": ({}, None, "http://localhost", "AI_ENGINE_URL=https://"),
    "no TLS there": (None, {}, "https://localhost", "ENGINE_TLS_CERT_FILE"),
}


@pytest.mark.parametrize(("engine", "gateway", "url", "fix"), MISFITS.values(), ids=MISFITS)
async def test_tls_that_does_not_fit_is_unavailable_and_the_log_says_what_to_put_right(
    upstream: Upstream,
    files: Files,
    engine: dict[str, Any] | None,
    gateway: dict[str, Any] | None,
    url: str,
    fix: str,
) -> None:
    there = {} if engine is None else files.engine(*engine.get("names", ()), mutual="mutual" in engine)
    here = {} if gateway is None else files.gateway(**gateway)
    async with between(upstream, there, here, url) as running:
        await _is_our_fault(running, fix)
    assert upstream.requests == []


@pytest.mark.parametrize("settings", [{}, {"service_token": OTHER_TOKEN}], ids=["none", "another"])
async def test_token_that_the_engine_refuses_is_our_fault_and_not_the_students(
    upstream: Upstream, settings: dict[str, Any]
) -> None:
    async with between(upstream, {"service_token": TOKEN}, settings, "http://localhost") as gateway:
        await _is_our_fault(gateway, "SERVICE_TOKEN")
    assert upstream.requests == []


async def _is_our_fault(gateway: RunningGateway, fix: str) -> None:
    with logged() as lines:
        status, reply = await asked(gateway)
        assert (status, reply["code"], reply["retryable"]) == (503, "ENGINE_UNAVAILABLE", True)
        assert "token" not in reply["error"]
        refused = _errors(lines())
        assert [await is_ready(gateway) for _ in range(3)] == [False] * 3
        noticed = _errors(lines())[len(refused) :]
    assert {line["request_id"] for line in refused} == {reply["request_id"]}
    assert len(noticed) == 1
    assert refused
    for line in (*refused, *noticed):
        assert line["event"] == "the engine cannot be used"
        assert fix in line["why"]


def _errors(lines: list[str]) -> list[Any]:
    return [line for line in map(json.loads, lines) if line["level"] == "error"]


async def test_engine_of_another_token_is_passed_over(upstream: Upstream) -> None:
    async with (
        running_engine(upstream, service_token=OTHER_TOKEN) as other,
        running_engine(upstream, service_token=TOKEN) as ours,
        running_gateway(f"http://localhost:{other.port},http://localhost:{ours.port}", service_token=TOKEN) as gateway,
    ):
        assert [(await asked(gateway))[0] for _ in range(4)] == [200] * 4


async def test_new_files_are_used_without_a_restart(upstream: Upstream, files: Files) -> None:
    async with between(upstream, files.engine(mutual=True), files.gateway(OTHERS, own=OTHERS)) as gateway:
        assert not await is_ready(gateway)
        files.gateway(OURS, own=OURS)
        await gateway.until_ready()
        assert (await asked(gateway))[0] == 200


async def test_new_files_leave_running_answers_alone_and_broken_ones_everything(
    upstream: Upstream, files: Files, tmp_path: Path
) -> None:
    more = up.Signal()
    upstream.script(up.stream_headers(), up.chunk("x is"), up.gate(more), up.chunk(" 5."), up.finish(), up.done())
    body = question(base64_image=PICTURE)
    async with between(upstream, files.engine(mutual=True), files.gateway(own=OURS)) as gateway:
        with logged() as lines:
            async with gateway.post(STREAM, body) as client:
                await client.read_head()
                await client.read_event()
                files.gateway(own=OURS)
                await until(lambda: "TLS files renewed" in "".join(lines()))
                (tmp_path / "gateway.pem").write_text("canary")
                await until(lambda: "new TLS files cannot be used" in "".join(lines()))
                more.set()
                assert events_in(await client.read_body())[-1]["content"] == ANSWER
            assert (await asked(gateway))[0] == 200
            assert "canary" not in "".join(lines())


@pytest.fixture
def fast_upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        running.default(*up.answer("x ", "is ", "5.", usage=(1, 1)))
        yield running


def test_stream_of_two_processes_over_mutual_tls_and_no_token_in_their_logs(
    fast_upstream: Upstream, files: Files
) -> None:
    there = files.engine(mutual=True) | files.gateway(own=OURS)
    settings = {name.upper(): str(value) for name, value in there.items()}
    both: dict[str, Any] = {**settings, "LOG_LEVEL": "debug", "SERVICE_TOKEN": TOKEN}
    port = free_port()
    own = {"ENGINE_PORT": str(port), "OPENAI_BASE_URL": fast_upstream.base_url, "ENGINE_HOST": "0.0.0.0"}
    with ExitStack() as stack:
        engine = Process("engine_grpc", port, {**both, **own})
        stack.callback(engine.stop)
        url = f"https://localhost:{port}"
        gateway = stack.enter_context(running_gateway_process(AI_ENGINE_URL=url, **both))
        own = {"AI_ENGINE_URL": url, "SERVICE_TOKEN": OTHER_TOKEN, "PORT": str(free_port())}
        intruder = Process("sse_gateway", int(own["PORT"]), {**both, **own})
        stack.callback(intruder.stop)
        wait_until_ready(f"http://127.0.0.1:{intruder.port}/healthz", intruder)
        body = encoded(question(base64_image=PICTURE))
        replies = [
            requests.post(f"http://127.0.0.1:{running.port}{STREAM}", body, timeout=10)
            for running in (gateway, intruder)
        ]
    assert events_in(replies[0].content)[-1]["content"] == ANSWER
    assert (replies[1].status_code, replies[1].json()["code"]) == (503, "ENGINE_UNAVAILABLE")
    logs = engine.log + gateway.log + intruder.log
    assert "canary" not in logs + replies[1].text
    assert "PRIVATE KEY" not in logs
    assert '"code": "UNAUTHENTICATED"' in engine.log
    assert "SERVICE_TOKEN" in intruder.log
    assert "INSECURE" not in logs

"""The engine over TLS: who is let in, and which certificate it shows."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import ssl
import warnings
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from studyai.v1 import chat_pb2_grpc

from engine_grpc.log import configure_logging
from tests import upstream as up
from tests.certificates import Authority
from tests.engine.harness import read, request, running_engine
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.certificates import Pair
    from tests.engine.harness import RunningEngine
    from tests.upstream import Upstream

OURS, OTHERS = Authority(), Authority()
ANSWER = "x is 5."
TLS = "engine_grpc.tls"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with up.Upstream() as running:
        running.default(*up.answer(ANSWER, usage=(1, 1)))
        yield running


def tls(folder: Path, pair: Pair, client_ca: Authority | None = None) -> dict[str, Path]:
    """The engine's settings for TLS; for mutual TLS with a `client_ca`."""
    certificate, key = pair.write(folder, "engine")
    settings = {"engine_tls_cert_file": certificate, "engine_tls_key_file": key}
    if client_ca:
        settings["engine_tls_client_ca_file"] = client_ca.write(folder / "callers.pem")
    return settings


@pytest.fixture
async def engine(upstream: Upstream, tmp_path: Path) -> AsyncIterator[RunningEngine]:
    async with running_engine(upstream, **tls(tmp_path, OURS.issue())) as running:
        yield running


async def told(engine: RunningEngine, credentials: grpc.ChannelCredentials | None, host: str = "localhost") -> str:
    """What a new caller is told: the answer, or the status of what went wrong."""
    target, options = f"{host}:{engine.port}", [("grpc.enable_retries", 0)]
    made = grpc.aio.secure_channel(target, credentials, options) if credentials else grpc.aio.insecure_channel(target)
    async with made as channel:
        streamed = await read(chat_pb2_grpc.ChatServiceStub(channel).ChatImage(request(), timeout=5))
    return streamed.text if streamed.error is None else streamed.error.code().name


async def test_caller_who_trusts_the_authority_is_answered(engine: RunningEngine) -> None:
    assert await told(engine, OURS.trusted()) == ANSWER
    assert await told(engine, OURS.trusted(), "127.0.0.1") == ANSWER


async def test_engine_goes_on_with_tls_after_a_call_that_grpc_cannot_read(engine: RunningEngine) -> None:
    async with grpc.aio.secure_channel(f"localhost:{engine.port}", OURS.trusted()) as channel:
        path: Any = b"/\xff"
        unreadable: Any = channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError):
            await unreadable(b"", timeout=1)
    await until(lambda: answers(engine))


async def answers(engine: RunningEngine) -> bool:
    return await told(engine, OURS.trusted()) == ANSWER


async def test_caller_who_trusts_others_does_not_ask(engine: RunningEngine, upstream: Upstream) -> None:
    assert await told(engine, OTHERS.trusted()) == "UNAVAILABLE"
    assert await told(engine, grpc.ssl_channel_credentials()) == "UNAVAILABLE"
    assert upstream.requests == []


async def test_certificate_of_another_name_is_not_taken_for_the_engines(upstream: Upstream, tmp_path: Path) -> None:
    async with running_engine(upstream, **tls(tmp_path, OURS.issue("elsewhere.example"))) as engine:
        assert await told(engine, OURS.trusted()) == "UNAVAILABLE"
        assert upstream.requests == []


async def test_caller_without_tls_gets_an_error_and_does_no_harm(engine: RunningEngine) -> None:
    async with asyncio.timeout(5):
        assert await told(engine, None) == "UNAVAILABLE"
    reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: engine\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()
    assert await told(engine, OURS.trusted()) == ANSWER


async def test_mutual_tls_lets_in_who_has_a_certificate_of_the_authority(upstream: Upstream, tmp_path: Path) -> None:
    callers = Authority()
    async with running_engine(upstream, **tls(tmp_path, OURS.issue(), callers)) as engine:
        assert await told(engine, OURS.trusted(callers.issue("gateway"))) == ANSWER
        upstream.forget()
        assert await told(engine, OURS.trusted()) == "UNAVAILABLE"
        assert await told(engine, OURS.trusted(OURS.issue("gateway"))) == "UNAVAILABLE"
        assert await told(engine, None) == "UNAVAILABLE"
        assert upstream.requests == []


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
async def test_tls_is_1_2_or_newer(engine: RunningEngine, version: ssl.TLSVersion, taken: bool) -> None:
    assert await asyncio.to_thread(_shakes_hands, engine.port, version) is taken


def _shakes_hands(port: int, version: ssl.TLSVersion) -> bool:
    context = ssl.create_default_context(cadata=OURS.pem.decode())
    context.set_alpn_protocols(["h2"])
    # OpenSSL itself would not try the old ones otherwise.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    try:
        with (
            socket.create_connection(("localhost", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            return encrypted.version() is not None
    except (ssl.SSLError, ConnectionError):
        return False


async def test_renewed_certificate_is_shown_from_the_next_connection_on(
    upstream: Upstream, engine: RunningEngine, tmp_path: Path
) -> None:
    more = up.Signal()
    upstream.script(up.stream_headers(), up.chunk("x is"), up.gate(more), up.chunk(" 5."), up.finish(), up.done())
    async with grpc.aio.secure_channel(f"localhost:{engine.port}", OURS.trusted()) as channel:
        open_before = aiter(chat_pb2_grpc.ChatServiceStub(channel).ChatImage(request()))
        await anext(open_before)
        OTHERS.issue().write(tmp_path, "engine")
        assert await told(engine, OTHERS.trusted()) == ANSWER
        assert await told(engine, OURS.trusted()) == "UNAVAILABLE"
        more.set()
        assert (await read(open_before)).text == ANSWER


async def test_renewed_authority_of_the_callers_is_the_one_that_counts(upstream: Upstream, tmp_path: Path) -> None:
    former, renewed = Authority(), Authority()
    async with running_engine(upstream, **tls(tmp_path, OURS.issue(), former)) as engine:
        assert await told(engine, OURS.trusted(former.issue("gateway"))) == ANSWER
        renewed.write(tmp_path / "callers.pem")
        assert await told(engine, OURS.trusted(renewed.issue("gateway"))) == ANSWER
        assert await told(engine, OURS.trusted(former.issue("gateway"))) == "UNAVAILABLE"


BROKEN: dict[str, Callable[[Path], object]] = {
    "no certificate": lambda folder: (folder / "engine.pem").write_text("canary-certificate"),
    "half a certificate": lambda folder: (folder / "engine.pem").write_bytes(OTHERS.issue().certificate[:300]),
    "no file": lambda folder: (folder / "engine.key").unlink(),
    "another's key": lambda folder: (folder / "engine.key").write_bytes(OTHERS.issue().key),
    "empty authorities": lambda folder: (folder / "callers.pem").write_text(""),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_file_that_is_broken_leaves_the_former_in_use_and_is_logged_once(
    upstream: Upstream, tmp_path: Path, broken: Callable[[Path], object]
) -> None:
    gateway = OURS.trusted(OURS.issue("gateway"))
    async with running_engine(upstream, **tls(tmp_path, OURS.issue(), OURS)) as engine:
        with logged() as lines:
            broken(tmp_path)
            assert [await told(engine, gateway) for _ in range(3)] == [ANSWER] * 3
            (warned,) = lines()
            assert warned["event"] == "new TLS files cannot be used, the former stay in use"
            assert "ENGINE_TLS_" in warned["why"]
            assert "canary" not in str(warned)
            OURS.write(tmp_path / "callers.pem")
            OTHERS.issue().write(tmp_path, "engine")
            assert await told(engine, OTHERS.trusted(OURS.issue("gateway"))) == ANSWER
            assert lines()[-1]["event"] == "TLS files renewed"


@contextmanager
def logged() -> Iterator[Callable[[], list[Any]]]:
    """What the engine says about its TLS files meanwhile."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logging("info", "json")
        yield lambda: [line for line in map(json.loads, stream.getvalue().splitlines()) if line["logger"] == TLS]
    configure_logging("info", "json")

"""The doctor finds what is wrong, says what to do, and shows no secret."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from tests import upstream as up
from tests.certificates import Authority
from tests.clients.terminal import PICTURE, run
from tests.gateway.tokens import SECRET, token
from tests.processes import (
    PERSISTENT,
    Process,
    free_port,
    running_engine_process,
    running_gateway_process,
    wait_until_connected,
)
from tests.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Service

KEY = "sk-canary-key"
TOKEN = "a-service-token-of-32-characters"  # noqa: S105 - good for a test's own engine
GATEWAYS_FILE = f"""
LOCAL_MODEL=true
SERVICE_TOKEN={TOKEN}
AI_ENGINE_URL=https://127.0.0.1:{{port}}
AI_ENGINE_TLS_CA_FILE=ca.pem
AI_ENGINE_TLS_CERT_FILE=gateway.pem
AI_ENGINE_TLS_KEY_FILE=gateway.key
AI_ENGINE_TLS_SERVER_NAME=engine.internal
"""
MODELS: dict[str, object] = {"object": "list", "data": [{"id": "gpt-5.4-mini"}]}


def examine(folder: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    status, written, said = run("doctor", *arguments, cwd=folder, settings=settings)
    assert said == ""
    assert KEY not in written
    assert "secret" not in written
    return status, re.sub(r"\s+", " ", written)


def settings_of(service: Service) -> dict[str, str]:
    return {"STUDYAI_URL": service.url, "AI_ENGINE_URL": f"http://127.0.0.1:{service.engine.port}"}


def test_service_that_is_well_passes(service: Service, tmp_path: Path) -> None:
    service.upstream.default(up.reply(200, MODELS))
    with running_redis("secret") as redis:
        (tmp_path / ".env").write_text(
            f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={service.upstream.base_url}\nSTATE_URL={redis.url}\n"
        )
        status, written = examine(tmp_path, **settings_of(service))
    assert status == 0
    assert "✓ engine" in written
    assert f"✓ gateway {service.url} is ready (version 0.1.0)." in written
    assert "✓ clock" in written
    assert re.search(r"✓ model 127\.0\.0\.1:\d+ answers, and has gpt-5\.4-mini\.", written)
    assert f"✓ redis 127.0.0.1:{redis.port} answers PING." in written
    assert written.endswith("All is well. ")
    (asked,) = service.upstream.requests
    assert (asked.path, asked.headers["authorization"]) == ("/v1/models", f"Bearer {KEY}")


def test_absent_service_is_found_with_what_to_start(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    status, written = examine(
        tmp_path,
        STUDYAI_URL=f"http://{nowhere}",
        AI_ENGINE_URL=f"http://{nowhere}",
        OPENAI_BASE_URL=f"http://{nowhere}/v1",
        STATE_URL=f"redis://:secret@{nowhere}/0",
    )
    assert status == 1
    for words in (
        f"✗ engine Nothing answers at {nowhere} without TLS. → Start it: make run, or engine-grpc.",
        f"✗ gateway Nothing answers at http://{nowhere}. → Start it: make run, or sse-gateway.",
        f"✗ model {nowhere} cannot be reached.",
        f"✗ redis {nowhere} does not answer PING.",
        "4 things to put right.",
    ):
        assert words in written


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (up.refusal(401), "✗ model 127.0.0.1:… refuses the key. → Set OPENAI_API_KEY"),
        (up.html(200), "! model 127.0.0.1:… answers, and has no list of models."),
        (up.reply(200, {"data": []}), "! model 127.0.0.1:… answers, and does not list gpt-5.4-mini."),
    ],
)
def test_models_server_that_is_not_well_is_told_apart(
    service: Service, tmp_path: Path, reply: up.steps.Step, told: str
) -> None:
    service.upstream.default(reply)
    status, written = examine(
        tmp_path, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=service.upstream.base_url, **settings_of(service)
    )
    assert told in re.sub(r"(model 127\.0\.0\.1):\d+", r"\1:…", written)
    assert status == int("✗" in told)


def test_engine_with_another_token_is_found(service: Service, tmp_path: Path) -> None:
    good = {"SERVICE_TOKEN": TOKEN}
    with running_engine_process(service.upstream.base_url, **good) as engine:
        settings = {**settings_of(service), "AI_ENGINE_URL": f"http://127.0.0.1:{engine.port}"}
        assert "wants another token. → Set SERVICE_TOKEN" in examine(tmp_path, **settings)[1]
        assert examine(tmp_path, LOCAL_MODEL="true", **good, **settings)[0] == 0


@contextmanager
def engine_with_mutual_tls(folder: Path, model: str = "http://127.0.0.1:9/v1") -> Iterator[int]:
    """An engine's port. The files of docs/tls.md are in the folder, and `.env` has the gateway's settings."""
    authority, port = Authority(), free_port()
    certificate, key = authority.issue("engine.internal").write(folder, "engine")
    caller = authority.issue("gateway")
    caller.write(folder, "gateway")
    ca = authority.write(folder / "ca.pem")
    (folder / ".env").write_text(GATEWAYS_FILE.format(port=port))
    settings = {"OPENAI_API_KEY": KEY, "ENGINE_PORT": str(port), "SERVICE_TOKEN": TOKEN, "OPENAI_BASE_URL": model}
    settings |= {"ENGINE_TLS_CERT_FILE": str(certificate), "ENGINE_TLS_KEY_FILE": str(key)}
    with ExitStack() as stack:
        engine = Process("engine_grpc", port, settings | {"ENGINE_TLS_CLIENT_CA_FILE": str(ca)})
        stack.callback(engine.stop)
        options = [("grpc.ssl_target_name_override", "engine.internal"), *PERSISTENT]
        with grpc.secure_channel(f"127.0.0.1:{port}", authority.trusted(caller), options) as channel:
            wait_until_connected(channel, engine)
        yield port


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "✓ engine 127.0.0.1:… serves, over TLS."),
        ({"SERVICE_TOKEN": "", "AI_ENGINE_TLS_KEY_FILE": ""}, "✓ engine 127.0.0.1:… serves, over TLS."),
        ({"AI_ENGINE_TLS_SERVER_NAME": "elsewhere"}, "✗ engine Nothing answers at 127.0.0.1:… over TLS."),
    ],
)
def test_engine_is_asked_with_token_and_tls_of_the_file_of_settings_where_the_environment_has_none(
    service: Service, tmp_path: Path, environment: dict[str, str], told: str
) -> None:
    with engine_with_mutual_tls(tmp_path) as port:
        status, written = examine(tmp_path, STUDYAI_URL=service.url, **environment)
    assert told.replace("…", str(port)) in written
    assert status == int("✗" in told)


def test_question_over_grpc_is_asked_with_the_file_of_settings_too(service: Service, tmp_path: Path) -> None:
    with engine_with_mutual_tls(tmp_path, service.upstream.base_url) as port:
        assert run("ask", "--grpc", PICTURE, "x?", "-q", cwd=tmp_path) == (0, "Hello there.\n", "")
        settings = {"SERVICE_TOKEN": TOKEN[::-1], "AI_ENGINE_URL": f"https://127.0.0.1:{port}"}
        assert "UNAUTHENTICATED" in run("ask", "--grpc", PICTURE, "x?", cwd=tmp_path, settings=settings)[2]


def test_password_in_an_address_is_not_shown(service: Service, tmp_path: Path) -> None:
    settings = settings_of(service) | {"STUDYAI_URL": service.url.replace("//", "//me:secret@")}
    assert f"✓ gateway {service.url} is ready" in examine(tmp_path, **settings)[1]
    nowhere = f"127.0.0.1:{free_port()}"
    assert f"Nothing answers at http://{nowhere}." in examine(tmp_path, STUDYAI_URL=f"http://me:secret@{nowhere}")[1]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"OPENAI_API_KEY": "“secret”"}, "✗ model OPENAI_API_KEY has letters that no header takes."),
        ({"OPENAI_BASE_URL": "http://[::1"}, "✗ model the address cannot be reached."),
        ({"STATE_URL": "redis://[::1"}, "✗ redis STATE_URL is no address."),
        ({"AI_ENGINE_URL": "http://[::1"}, "✗ engine grpc://[::1 is no address."),
    ],
)
def test_setting_that_is_none_is_named(service: Service, tmp_path: Path, settings: dict[str, str], told: str) -> None:
    status, written = examine(tmp_path, **(settings_of(service) | settings))
    assert status == 1
    assert told in written


def test_file_of_settings_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("OPENAI_API_KEY=clé".encode("latin-1"))
    status, written, said = run("doctor", cwd=tmp_path)
    assert (status, written, said) == (2, "", "studyai: .env is not UTF-8: save it as that.\n")


@pytest.mark.parametrize("status", [200, 503])
def test_gateway_behind_a_proxy_that_lets_through_little_is_told_in_a_sentence(
    service: Service, tmp_path: Path, status: int
) -> None:
    service.upstream.script(up.reply(200, {"status": "ok"}))
    service.upstream.default(up.html(status))
    settings = {**settings_of(service), "STUDYAI_URL": service.upstream.base_url.removesuffix("/v1")}
    _, written = examine(tmp_path, **settings)
    assert ("is ready." if status == 200 else "lives, and is not ready: HTTP 503.") in written


def test_token_that_no_header_takes_is_found(service: Service, tmp_path: Path) -> None:
    status, written = examine(tmp_path, **(settings_of(service) | {"SERVICE_TOKEN": "“secret”"}))
    assert status == 1
    assert "The token has letters that no header takes." in written


def test_something_else_at_the_gateways_address_is_told_as_such(service: Service, tmp_path: Path) -> None:
    service.upstream.default(up.html(200))
    settings = {**settings_of(service), "STUDYAI_URL": service.upstream.base_url.removesuffix("/v1")}
    status, written = examine(tmp_path, **settings)
    assert status == 1
    assert "is not StudyAI's gateway." in written


def test_gateway_that_is_named_alone_is_examined_without_an_engine(service: Service, tmp_path: Path) -> None:
    status, written = examine(tmp_path, "--url", service.url)
    assert status == 0
    assert "– engine Not asked: the gateway is elsewhere, and neither --engine nor AI_ENGINE_URL names one." in written
    assert "– settings No model is named here (the environment; there is no .env here)" in written
    assert written.endswith("All is well. ")


def test_each_of_several_engines_is_asked(service: Service, tmp_path: Path) -> None:
    gone = free_port()
    several = f"http://127.0.0.1:{service.engine.port}, http://127.0.0.1:{gone}"
    status, written = examine(tmp_path, STUDYAI_URL=service.url, AI_ENGINE_URL=several)
    assert status == 1
    assert f"✓ engine 127.0.0.1:{service.engine.port} serves." in written
    assert f"✗ engine Nothing answers at 127.0.0.1:{gone} without TLS." in written


def test_gateway_that_wants_another_token_is_found(service: Service, tmp_path: Path) -> None:
    with running_gateway_process(service.engine, AUTH_JWT_KEY=SECRET) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        told = [examine(tmp_path, STUDYAI_URL=url, STUDYAI_TOKEN=shown) for shown in ("", "wrong", token("mia"))]
    assert [status for status, _ in told] == [1, 1, 0]
    assert "✗ token The gateway wants one. → Set STUDYAI_TOKEN" in told[0][1]
    assert "✗ token The gateway refuses the one in STUDYAI_TOKEN." in told[1][1]


def test_ports_of_the_file_of_settings_are_where_a_service_here_is_looked_for(service: Service, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PORT={service.gateway.port}\nENGINE_PORT={service.engine.port}\n")
    status, written = examine(tmp_path)
    assert status == 0
    assert f"✓ engine 127.0.0.1:{service.engine.port} serves." in written
    assert f"✓ gateway http://127.0.0.1:{service.gateway.port} is ready" in written

"""What the settings may say, and how the start ends where they say something else."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr, ValidationError

from sse_gateway.engine_url import EngineTarget, engine_targets
from sse_gateway.settings import GatewaySettings, faults
from tests.gateway.process import run_to_end

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "targets"),
    [
        ("http://localhost:5001", [EngineTarget("dns:///localhost:5001")]),
        ("http://engine/", [EngineTarget("dns:///engine:80")]),
        ("https://engine.example", [EngineTarget("dns:///engine.example:443", tls=True)]),
        ("http://[::1]:5001", [EngineTarget("dns:///[::1]:5001")]),
        ("dns:///engine:5001", [EngineTarget("dns:///engine:5001", balanced=True)]),
        ("http://a:1, https://b:2", [EngineTarget("dns:///a:1"), EngineTarget("dns:///b:2", tls=True)]),
    ],
)
def test_url_names_targets(url: str, targets: list[EngineTarget]) -> None:
    assert engine_targets(url) == targets


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:5001",
        "grpc://a:1",
        "http://",
        "http://a:b",
        "http://a:1,",
        "http://a:1/path",
        "http://u:p@a:1",
        "dns:///",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://host:port|Port"):
        engine_targets(url)


def test_defaults_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    assert GatewaySettings().model_dump() == {
        "ai_engine_url": "http://localhost:5001",
        "ai_engine_tls_ca_file": None,
        "ai_engine_tls_cert_file": None,
        "ai_engine_tls_key_file": None,
        "ai_engine_tls_server_name": None,
        "service_token": None,
        "insecure": False,
        "auth_jwt_key": None,
        "auth_jwt_key_file": None,
        "auth_jwt_jwks": None,
        "auth_jwt_issuer": None,
        "auth_jwt_audience": None,
        "auth_jwt_algorithms": (),
        "auth_jwt_leeway_seconds": 10,
        "rate_limit": None,
        "max_concurrent_answers_per_student": 0,
        "state_url": SecretStr("memory://"),
        "cors_allow_origins": None,
        "host": "127.0.0.1",
        "port": 3000,
        "max_payload_bytes": 3_145_728,
        "header_timeout_seconds": 10,
        "body_timeout_seconds": 20,
        "upload_memory_bytes": 67_108_864,
        "heartbeat_seconds": 15,
        "enable_response_compression": True,
        "write_stall_timeout_seconds": 30,
        "drain_seconds": 30,
        "otel_exporter_otlp_endpoint": None,
        "log_level": "info",
        "log_format": "auto",
    }


def test_environment_wins_over_the_file_and_others_variables_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-1\nPORT=4000\nHEARTBEAT_SECONDS=7\nLOG_FORMAT=\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "4001")
    settings = GatewaySettings()
    assert (settings.port, settings.heartbeat_seconds, settings.log_format) == (4001, 7, "auto")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AI_ENGINE_URL", "secret-host"),
        ("AI_ENGINE_URL", "http://user:secret-word@host"),
        ("AI_ENGINE_URL", "http://a:secret"),
        ("PORT", "secret"),
        ("PORT", "65536"),
        ("MAX_PAYLOAD_BYTES", "0"),
        ("HEARTBEAT_SECONDS", "0"),
        ("HEARTBEAT_SECONDS", "nan"),
        ("WRITE_STALL_TIMEOUT_SECONDS", "-1"),
        ("DRAIN_SECONDS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_fault_names_the_variable_and_an_example_but_not_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        GatewaySettings(_env_file=None)
    (line,) = faults(caught.value)
    assert line.startswith(f"{name}: ")
    assert f" For example: {name}=" in line
    assert "secret" not in line


async def test_bad_settings_end_the_start_with_one_line_each(tmp_path: Path) -> None:
    code, output = await run_to_end(tmp_path, PORT="three", LOG_LEVEL="loud")
    lines = output.splitlines()
    assert code == 2
    assert len(lines) == 2
    assert lines[0].startswith("sse-gateway: PORT: ")
    assert lines[1].startswith("sse-gateway: LOG_LEVEL: ")


async def test_port_that_is_taken_ends_the_start_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, output = await run_to_end(tmp_path, PORT=str(taken.getsockname()[1]))
    assert code != 0
    assert "address already in use" in output
    assert "Traceback" not in output


async def test_env_file_in_another_encoding_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\n", "utf-16")
    assert await run_to_end(tmp_path) == (2, "sse-gateway: .env: Save it as UTF-8.\n")

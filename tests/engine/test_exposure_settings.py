"""Where the engine may listen, and what it says of TLS files and tokens that it cannot use."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from engine_grpc.settings import EngineSettings, faults
from tests.certificates import Authority
from tests.processes import clean_environment, running_engine_process

if TYPE_CHECKING:
    from pathlib import Path

OURS = Authority()
TOKEN = "canary-token-0123456789abcdefghij"  # noqa: S105 - made up
PUBLIC = ["0.0.0.0", "::", "10.0.0.7", "203.0.113.9", "engine", "localhost.example", "::ffff:127.0.0.1", "127.1", "*"]
LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"]


def settings(**fields: Any) -> EngineSettings:
    chosen: dict[str, Any] = {"_env_file": None, "local_model": True, **fields}
    return EngineSettings(**chosen)


def said(**fields: Any) -> str:
    """The one line that the settings are refused with."""
    with pytest.raises(ValidationError) as caught:
        settings(**fields)
    (line,) = faults(caught.value)
    assert "canary" not in line
    return line


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    certificate, key = OURS.issue().write(tmp_path, "engine")
    return {"engine_tls_cert_file": certificate, "engine_tls_key_file": key}


@pytest.fixture
def client_ca(tmp_path: Path) -> Path:
    return OURS.write(tmp_path / "ca.pem")


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_needs_nothing(host: str) -> None:
    assert settings(engine_host=host).unprotected == []


@pytest.mark.parametrize("host", PUBLIC)
def test_host_that_others_can_reach_needs_tls_and_known_callers(
    host: str, tls: dict[str, Path], client_ca: Path
) -> None:
    assert "set ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE, and SERVICE_TOKEN or" in said(engine_host=host)
    assert "set ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE; or" in said(engine_host=host, service_token=TOKEN)
    assert "set SERVICE_TOKEN or ENGINE_TLS_CLIENT_CA_FILE; or" in said(engine_host=host, **tls)
    settings(engine_host=host, service_token=TOKEN, **tls)
    settings(engine_host=host, engine_tls_client_ca_file=client_ca, **tls)
    assert len(settings(engine_host=host, insecure=True).unprotected) == 2


def test_half_of_tls_is_refused(tls: dict[str, Path], client_ca: Path) -> None:
    for half in (
        {"engine_tls_cert_file": tls["engine_tls_cert_file"]},
        {"engine_tls_key_file": tls["engine_tls_key_file"]},
        {"engine_tls_client_ca_file": client_ca},
    ):
        assert "TLS needs ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE, both" in said(insecure=True, **half)


def test_files_that_are_of_no_use_are_named(tls: dict[str, Path], tmp_path: Path) -> None:
    certificate, key = tls.values()
    text = tmp_path / "canary.txt"
    text.write_text("canary")
    assert "ENGINE_TLS_KEY_FILE cannot be read: No such file" in said(
        engine_tls_cert_file=certificate, engine_tls_key_file=tmp_path / "canary"
    )
    assert "ENGINE_TLS_CERT_FILE cannot be read: Is a directory" in said(
        engine_tls_cert_file=tmp_path, engine_tls_key_file=key
    )
    for pair in ((text, key), (certificate, text), (key, certificate)):
        line = said(engine_tls_cert_file=pair[0], engine_tls_key_file=pair[1])
        assert "should be a certificate and its own private key" in line
    _, other = OURS.issue().write(tmp_path, "other")
    assert "its own private key" in said(engine_tls_cert_file=certificate, engine_tls_key_file=other)
    assert "ENGINE_TLS_CLIENT_CA_FILE should be certificates" in said(**tls, engine_tls_client_ca_file=text)


def test_key_with_a_password_is_refused_and_nobody_asked_for_it(tls: dict[str, Path], tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.key"
    key = load_pem_private_key(tls["engine_tls_key_file"].read_bytes(), None)
    encrypted.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    assert "not encrypted" in said(engine_tls_cert_file=tls["engine_tls_cert_file"], engine_tls_key_file=encrypted)


@pytest.mark.parametrize(
    "value", ["canary", "x" * 31, f"{TOKEN},", f"{TOKEN},canary", f"canary {TOKEN}", f"{TOKEN}é", ",", " "]
)
def test_token_that_is_short_or_odd_is_refused(value: str) -> None:
    assert said(service_token=value).startswith("SERVICE_TOKEN: Must be at least 32 visible ASCII characters")


def test_tokens_are_taken_apart_and_not_shown() -> None:
    several = settings(service_token=f"{TOKEN}, {TOKEN}2")
    assert several.service_tokens == [TOKEN, f"{TOKEN}2"]
    assert "canary" not in repr(several)
    assert settings().service_tokens == []


def test_engine_does_not_start_where_others_could_reach_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "engine_grpc"],
        cwd=tmp_path,
        env=clean_environment(LOCAL_MODEL="true", ENGINE_HOST="0.0.0.0", SERVICE_TOKEN=TOKEN),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("engine-grpc: settings: ENGINE_HOST is not a loopback address")
    assert line.endswith("INSECURE=true")
    assert "canary" not in line


def test_insecure_engine_starts_with_one_warning() -> None:
    nobody = "http://127.0.0.1:9/v1"
    with running_engine_process(nobody, ENGINE_HOST="0.0.0.0", INSECURE="true", SERVICE_TOKEN=TOKEN) as engine:
        pass
    (warning,) = [line for line in map(json.loads, engine.log.splitlines()) if line["level"] == "warning"]
    assert "INSECURE=true" in warning["event"]
    assert warning["missing"] == ["ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE"]
    assert "canary-token" not in engine.log

"""What the settings say of the way to the engine, and which ways are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from sse_gateway.engine_url import EngineTarget, engine_targets
from sse_gateway.settings import GatewaySettings, faults
from tests.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

OURS = Authority()
TOKEN = "canary-token-0123456789abcdefghij"  # noqa: S105 - made up
HERE = ["http://localhost:5001", "http://127.0.0.1:5001", "http://[::1]:5001", "dns:///localhost:5001"]
ELSEWHERE = ["http://engine:5001", "http://10.0.0.7:5001", "dns:///engine:5001", "http://localhost:1,http://engine:2"]


def settings(**fields: Any) -> GatewaySettings:
    chosen: dict[str, Any] = {"_env_file": None, **fields}
    return GatewaySettings(**chosen)


def said(**fields: Any) -> str:
    """The one line that the settings are refused with."""
    with pytest.raises(ValidationError) as caught:
        settings(**fields)
    (line,) = faults(caught.value)
    assert "canary" not in line
    return line


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return OURS.write(tmp_path / "ca.pem")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return OURS.issue("gateway").write(tmp_path, "gateway")


@pytest.mark.parametrize("url", HERE)
def test_token_may_go_to_this_machine_in_clear(url: str) -> None:
    assert settings(ai_engine_url=url, service_token=TOKEN).engine_access.metadata == (
        ("authorization", f"Bearer {TOKEN}"),
    )


@pytest.mark.parametrize("url", ELSEWHERE)
def test_token_does_not_go_elsewhere_in_clear(url: str) -> None:
    line = said(ai_engine_url=url, service_token=TOKEN)
    assert line.startswith("AI_ENGINE_URL: SERVICE_TOKEN would go over the network in clear: say https://")
    settings(ai_engine_url=url, service_token=TOKEN, insecure=True)
    settings(ai_engine_url=url)


def test_token_goes_elsewhere_over_tls(ca: Path) -> None:
    settings(ai_engine_url="https://engine", service_token=TOKEN)
    balanced = settings(ai_engine_url="dns:///engine:5001", service_token=TOKEN, ai_engine_tls_ca_file=ca)
    assert balanced.engine_targets == [EngineTarget("dns:///engine:5001", tls=True, balanced=True)]


def test_tls_settings_that_http_would_not_use_are_refused(ca: Path) -> None:
    for url in ("http://localhost:5001", "https://a,http://b"):
        assert "say https://" in said(ai_engine_url=url, ai_engine_tls_ca_file=ca)
    assert "say https://" in said(ai_engine_tls_server_name="engine")


def test_first_token_of_several_is_shown() -> None:
    assert settings(service_token=f"{TOKEN}2, {TOKEN}").engine_access.metadata[0][1] == f"Bearer {TOKEN}2"


def test_token_is_not_shown() -> None:
    given = settings(service_token=TOKEN)
    assert TOKEN not in repr(given)
    assert TOKEN not in repr(given.engine_access)


def test_files_that_are_of_no_use_are_named(ca: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    text = tmp_path / "canary.txt"
    text.write_text("canary")
    https: dict[str, Any] = {"ai_engine_url": "https://engine"}
    assert said(**https, ai_engine_tls_ca_file=text).startswith("AI_ENGINE_TLS_CA_FILE: Should be a file of auth")
    assert said(**https, ai_engine_tls_ca_file=tmp_path / "canary").startswith("AI_ENGINE_TLS_CA_FILE: ")
    assert said(**https, ai_engine_tls_ca_file=key).startswith("AI_ENGINE_TLS_CA_FILE: ")
    _, other = OURS.issue("other").write(tmp_path, "other")
    for wrong in (other, text, certificate):
        line = said(**https, ai_engine_tls_cert_file=certificate, ai_engine_tls_key_file=wrong)
        assert line.startswith("AI_ENGINE_TLS_KEY_FILE: Should be the certificate's private key")
    for half in ({"ai_engine_tls_cert_file": certificate}, {"ai_engine_tls_key_file": key}):
        assert "AI_ENGINE_TLS_CERT_FILE and this need each other" in said(**https, **half)


@pytest.mark.parametrize("value", ["canary", f"{TOKEN},", f"{TOKEN},canary", f"canary {TOKEN}", f"{TOKEN}é"])
def test_token_that_is_short_or_odd_is_refused(value: str) -> None:
    assert said(service_token=value).startswith("SERVICE_TOKEN: Must be at least 32 visible ASCII characters")


def test_names_that_resolve_to_many_have_tls_only_if_told() -> None:
    assert engine_targets("dns:///engine:1") == [EngineTarget("dns:///engine:1", balanced=True)]
    assert engine_targets("dns:///engine:1", tls_names=True)[0].tls
    assert not engine_targets("http://engine:1", tls_names=True)[0].tls

"""STATE_URL, as it is checked at the start."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engine_grpc.settings import faults
from tests.engine.harness import engine_settings


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://cache",
        "redis://:secret-canary@cache:6379/1",
        "redis://anna:secret-canary@[::1]:6379",
        "rediss://cache/0?ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_state_url_is_taken(url: str) -> None:
    settings = engine_settings(state_url=url)
    assert settings.state_url.get_secret_value() == url
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "http://secret-canary@cache",
        "memory://secret-canary",
        "redis://:secret-canary@cache/first",
        "redis://:secret-canary@cache:99999",
        "redis://:secret-canary@cache?sooket_timeout=1",
        "secret-canary",
    ],
)
def test_wrong_state_url_is_refused_with_what_it_must_be(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        engine_settings(state_url=url)
    (fault,) = faults(caught.value)
    assert fault.startswith("STATE_URL: Must be memory://, or redis://")
    assert "canary" not in fault

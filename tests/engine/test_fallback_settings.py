"""The settings that name the second model: what each alone means, whose key it is told, and what makes no sense."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from engine_grpc.settings import faults
from engine_grpc.wiring import fallback_options, model_options
from tests import upstream as up
from tests.engine.harness import FIRST, KEY, SECOND, Two, engine_settings, engine_with_fallback, running_engine

NO_SECOND_TRY = {"Retry-After": "60"}


async def test_fallback_model_alone_is_asked_at_the_same_server_with_the_same_key(two: Two) -> None:
    two.primary.script(up.refusal(401))
    two.primary.script(*up.answer("Hi"))
    async with running_engine(two.primary, openai_fallback_model=SECOND) as engine:
        assert (await engine.stream()).messages[0].started.model == SECOND
    assert [asked.json["model"] for asked in two.primary.requests] == [FIRST, SECOND]
    assert {asked.headers["authorization"] for asked in two.primary.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("own", [None, "sk-fallback-key"])
async def test_fallback_server_alone_is_asked_for_the_same_model_and_never_told_the_first_ones_key(
    two: Two, own: str | None
) -> None:
    two.primary.default(up.refusal(503, headers=NO_SECOND_TRY))
    settings = {"openai_fallback_base_url": two.fallback.base_url, "openai_fallback_api_key": own}
    async with running_engine(two.primary, **settings) as engine:
        assert (await engine.stream()).messages[0].started.model == FIRST
    (asked,) = two.fallback.requests
    assert asked.json["model"] == FIRST
    assert asked.headers["authorization"] == f"Bearer {own or 'none'}"
    assert KEY not in str(asked.headers)


async def test_request_to_the_fallback_differs_in_the_model_alone(two: Two) -> None:
    two.primary.default(up.refusal(401))
    async with engine_with_fallback(two, openai_image_detail="low", openai_max_completion_tokens=7) as engine:
        await engine.stream()
    bodies = [upstream.requests[0].json for upstream in two]
    assert [body.pop("model") for body in bodies] == [FIRST, SECOND]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    "place", ["http://a/v2", "http://a:81/v1", "https://a/v1", "http://b/v1", "http://a/v1?api-version=2"]
)
def test_same_model_elsewhere_is_a_fallback(place: str) -> None:
    assert fallback_options(engine_settings(openai_base_url="http://a/v1", openai_fallback_base_url=place))


def test_key_is_told_to_its_own_server_however_that_is_spelt() -> None:
    fallback = fallback_options(engine_settings(openai_fallback_base_url="https://API.openai.com:443/v2"))
    assert fallback is not None
    assert fallback.api_key == KEY


def test_only_openai_gets_an_identifier_and_the_same_one_from_both() -> None:
    settings = engine_settings(openai_fallback_model=SECOND)
    fallback = fallback_options(settings)
    assert fallback is not None
    assert fallback.safety_identifier_key == model_options(settings, None, FIRST).safety_identifier_key is not None
    elsewhere = fallback_options(engine_settings(openai_fallback_base_url="http://127.0.0.1:1/v1"))
    assert elsewhere is not None
    assert elsewhere.safety_identifier_key is None
    back = fallback_options(
        engine_settings(
            openai_base_url="http://127.0.0.1:1/v1",
            openai_api_key=None,
            openai_fallback_base_url="https://api.openai.com/v1",
            openai_fallback_api_key="sk-own",
        )
    )
    assert back is not None
    assert back.safety_identifier_key is not None
    assert back.api_key == "sk-own"


def test_operator_is_warned_of_a_fallback_at_its_end() -> None:
    with capture_logs() as logs:
        fallback_options(engine_settings(openai_fallback_model="gpt-4-vision-preview"))
    assert ["gpt-4-vision-preview" in entry["event"] for entry in logs] == [True]


def test_local_model_has_no_fallback() -> None:
    assert fallback_options(engine_settings(local_model=True, openai_fallback_model=SECOND)) is None
    assert fallback_options(engine_settings()) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"openai_fallback_model": FIRST}, "OPENAI_FALLBACK_MODEL"),
        ({"openai_base_url": "http://a/v1", "openai_fallback_base_url": "http://a/v1"}, "OPENAI_FALLBACK_MODEL"),
        ({"openai_fallback_base_url": "https://api.openai.com/v1"}, "OPENAI_FALLBACK_MODEL"),
        ({"openai_base_url": "http://a/v1", "openai_fallback_base_url": "http://A:80/v1/"}, "OPENAI_FALLBACK_MODEL"),
        ({"openai_fallback_base_url": "http://a:canary/v1"}, "OPENAI_FALLBACK_BASE_URL"),
        ({"openai_fallback_api_key": "sk-canary"}, "OPENAI_FALLBACK_BASE_URL"),
        ({"openai_fallback_base_url": "canary.example"}, "OPENAI_FALLBACK_BASE_URL"),
    ],
)
def test_fallback_that_makes_no_sense_is_refused_at_the_start(fields: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        engine_settings(**fields)
    (fault,) = faults(caught.value)
    assert named in fault
    assert "canary" not in fault

"""The documentation: valid, complete, true to the wire, and shown without the internet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV32SpecValidator

from tests.gateway.fake_engine import failure
from tests.gateway.test_errors import TABLE
from tests.gateway.test_fallback import ANSWER
from tests.gateway.wire import FALLBACK, STREAM, events_in, question

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from tests.gateway.conftest import RunningGateway
    from tests.gateway.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_OTHER_ROUTES = {"ANSWER_NOT_FOUND"}
"""Codes that no question is told."""


@pytest_asyncio.fixture(loop_scope="module")
async def document(gateway: RunningGateway) -> Any:
    async with gateway.get("/openapi.json") as client:
        return await client.read_json()


def validator(document: Any, schema: dict[str, Any]) -> Validator:
    """Checks instances against a schema that refers to the document's components."""
    return Draft202012Validator({**schema, "components": document["components"]})


def event_validator(document: Any) -> Validator:
    content = document["paths"][STREAM]["post"]["responses"]["200"]["content"]["text/event-stream"]
    return validator(document, content["itemSchema"]["properties"]["data"]["contentSchema"])


async def test_document_is_valid_openapi(document: Any) -> None:
    assert document["openapi"] == "3.2.0"
    OpenAPIV32SpecValidator(document).validate()


async def test_every_event_type_has_its_schema(document: Any) -> None:
    schema: Any = event_validator(document).schema
    assert set(schema["discriminator"]["mapping"]) == {"start", "content", "end", "error"}
    assert len(schema["oneOf"]) == 4


@pytest.mark.parametrize("accumulate", [True, False])
async def test_streamed_events_are_as_documented(
    gateway: RunningGateway, engine: FakeEngine, document: Any, accumulate: bool
) -> None:
    events = []
    for fails in (False, True):
        async with gateway.post(STREAM, question(accumulate=accumulate), idempotency_key="k") as client:
            call = await engine.next_call()
            await call.start()
            await call.text("This")
            if fails:
                call.fail(failure(grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"))
            else:
                await call.finish()
            await client.read_head()
            events += events_in(await client.read_body())
    assert {event["type"] for event in events} == {"start", "content", "end", "error"}
    for event in events:
        event_validator(document).validate(event)
        assert not event_validator(document).is_valid({**event, "type": "other"})


async def test_replies_are_as_documented(gateway: RunningGateway, engine: FakeEngine, document: Any) -> None:
    responses = document["paths"][FALLBACK]["post"]["responses"]
    async with gateway.post(FALLBACK) as client:
        (await engine.next_call()).close(ANSWER)
        await client.read_head()
        reply = await client.read_json()
    validator(document, responses["200"]["content"]["application/json"]["schema"]).validate(reply)
    async with gateway.post(FALLBACK, b" " * 4_000_000) as client:
        await client.read_head()
        reply = await client.read_json()
    validator(document, responses["413"]["content"]["application/json"]["schema"]).validate(reply)
    assert set(reply) <= set(document["components"]["schemas"]["ErrorReply"]["properties"])


@pytest.mark.parametrize("path", [STREAM, FALLBACK, "/api/v1/chat-image-stream", "/api/v1/chat-image"])
async def test_every_code_stands_at_its_status(document: Any, path: str) -> None:
    responses = document["paths"][path]["post"]["responses"]
    for row in TABLE:
        told = f"`{row.code}`" in responses.get(str(row.http), {}).get("description", "")
        assert told is (row.code not in OF_OTHER_ROUTES), row.code


async def test_examples_are_as_documented(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            validator(document, {"$ref": f"#/components/schemas/{name}"}).validate(example)
    content = document["paths"][STREAM]["post"]["responses"]["200"]["content"]["text/event-stream"]
    for event in events_in(content["example"].encode()):
        event_validator(document).validate(event)


async def test_question_is_as_documented(document: Any) -> None:
    body = document["paths"][STREAM]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert validator(document, body).is_valid(question())
    assert validator(document, body).is_valid({"prompt": "?", "session_id": None})
    assert not validator(document, body).is_valid({})
    assert not validator(document, body).is_valid(question(student_id="a b"))


async def test_docs_are_shown_from_here(gateway: RunningGateway) -> None:
    async with gateway.get("/docs") as client:
        page = (await client.read_body()).decode()
    assert "://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f'"/docs/assets/{asset}"' in page
        async with gateway.get(f"/docs/assets/{asset}") as client:
            assert client.status == 200
            assert len(await client.read_body()) > 100_000

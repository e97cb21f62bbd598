"""Questions that follow another in a session: what is known of it, and whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.engine.harness import complete_request

if TYPE_CHECKING:
    from tests.engine.harness import RunningEngine
    from tests.upstream import Upstream


async def test_follow_up_without_a_picture_is_asked_about_the_sessions_last(
    engine: RunningEngine, upstream: Upstream
) -> None:
    upstream.script(*up.answer("It is 6."))
    first = await engine.stream(session_id="s-1", student_id="anna")
    assert first.error is None
    again = await engine.stream(image=b"", prompt="Why?", session_id="s-1", student_id="anna")
    assert again.error is None
    before, after = (asked.json["messages"] for asked in upstream.requests)
    assert after[1:3] == [
        {"role": "user", "content": "What is x?"},
        {"role": "assistant", "content": "It is 6."},
    ]
    assert after[-1]["content"][-1] == before[-1]["content"][-1]
    assert after[-1]["content"][-2]["text"] == "Why?"


@pytest.mark.parametrize(
    "other", [{"student_id": "ben"}, {"session_id": "s-2"}, {"session_id": ""}, {"student_id": ""}]
)
async def test_session_of_another_student_or_name_knows_nothing(
    engine: RunningEngine, upstream: Upstream, other: dict[str, str]
) -> None:
    fields = {"session_id": "s-1", "student_id": "anna"}
    await engine.stream(**fields)
    streamed = await engine.stream(image=b"", prompt="Why?", **{**fields, **other})
    assert streamed.reason == "INVALID_REQUEST"
    with_picture = await engine.stream(prompt="Why?", **{**fields, **other})
    assert with_picture.error is None
    assert len(upstream.requests[-1].json["messages"]) == 2


async def test_answer_that_its_student_did_not_see_is_not_remembered(engine: RunningEngine, upstream: Upstream) -> None:
    upstream.script(up.stream_headers(), up.chunk("Unseen"), up.reset())
    await engine.stream(session_id="s-1")
    await engine.stream(image=b"", prompt="Why?", session_id="s-1")
    assert len(upstream.requests[-1].json["messages"]) == 2


async def test_session_the_engine_named_can_be_gone_on_with(engine: RunningEngine, upstream: Upstream) -> None:
    first = await engine.stream()
    session_id = first.messages[0].started.session_id
    again = await engine.stream(image=b"", prompt="Why?", session_id=session_id)
    assert again.error is None
    assert len(upstream.requests[-1].json["messages"]) == 4


async def test_complete_request_of_a_session_is_remembered_too(engine: RunningEngine, upstream: Upstream) -> None:
    await engine.stub.CompleteChatImage(complete_request(session_id="s-1"))
    await engine.stream(image=b"", prompt="Why?", session_id="s-1")
    assert len(upstream.requests[-1].json["messages"]) == 4

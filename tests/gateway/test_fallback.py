from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import requests
from studyai.v1 import chat_pb2

from tests.gateway.fake_engine import FINISHED, STARTED, FakeEngine
from tests.gateway.wire import PICTURE, question

if TYPE_CHECKING:
    from tests.gateway.conftest import RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER = chat_pb2.CompleteChatImageResponse(started=STARTED, text='The "area" is 6\u2028cm². 👍', finished=FINISHED)


@pytest.mark.parametrize("path", ["/api/ai/chat-image", "/api/v1/chat-image"])
async def test_whole_answer_is_the_documented_reply(gateway: RunningGateway, engine: FakeEngine, path: str) -> None:
    headers = {"X-Request-Id": "req-5"}
    posting = asyncio.create_task(
        asyncio.to_thread(requests.post, gateway.url + path, json=question(subject="math"), headers=headers, timeout=5)
    )
    call = await engine.next_call()
    assert call.metadata["x-request-id"] == "req-5"
    assert call.request == chat_pb2.CompleteChatImageRequest(
        question=chat_pb2.ImageQuestion(
            image=PICTURE, prompt="What is this?", subject="math", student_id=call.request.question.student_id
        )
    )
    call.close(ANSWER)
    response = await posting
    assert response.status_code == 200
    assert response.headers["x-request-id"] == "req-5"
    assert response.json() == {
        "success": True,
        "response": ANSWER.text,
        "processing_time_ms": 2500,
        "tokens_used": 50,
        "image_analyzed": True,
        "error": None,
        "model": "gpt-5.4-mini",
        "finish_reason": "stop",
        "answer_id": "0f4c9a6be1d24c0f9a3b7d5e8c1f2a6b",
        "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50},
    }


async def test_whole_answers_estimated_usage_says_so(gateway: RunningGateway, engine: FakeEngine) -> None:
    async with gateway.post("/api/ai/chat-image") as client:
        call = await engine.next_call()
        usage = chat_pb2.TokenUsage(total_tokens=7, estimated=True)
        call.close(chat_pb2.CompleteChatImageResponse(finished=chat_pb2.AnswerFinished(usage=usage)))
        await client.read_head()
        reply = await client.read_json()
    assert reply["tokens_used"] == 7
    assert reply["usage"]["estimated"] is True

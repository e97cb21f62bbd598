"""What a team writes first: a plain FastAPI engine that streams OpenAI's typed chunks as accumulated events."""

import json
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

app = FastAPI()
client = AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")


class Question(BaseModel):
    base64_image: str
    prompt: str
    subject: str = "general"


def _event(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event)}\n\n"


async def _answer(question: Question) -> AsyncIterator[str]:
    began, content, tokens = time.time(), "", 0
    stream = await client.chat.completions.create(
        model="bench",
        stream=True,
        stream_options={"include_usage": True},
        messages=[
            {"role": "system", "content": f"You help with {question.subject}."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": question.prompt},
                    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{question.base64_image}"}},
                ],
            },
        ],
    )
    yield _event({"type": "start", "timestamp": began, "model": "bench"})
    async for chunk in stream:
        if chunk.usage:
            tokens = chunk.usage.total_tokens
        if chunk.choices and (delta := chunk.choices[0].delta.content):
            content += delta
            yield _event({"type": "content", "content": content, "delta": delta})
    elapsed = round((time.time() - began) * 1000)
    yield _event({"type": "end", "content": content, "tokens": tokens, "processing_time_ms": elapsed})


@app.post("/api/v1/chat-image-stream")
async def chat_image_stream(question: Question) -> StreamingResponse:
    return StreamingResponse(_answer(question), media_type="text/event-stream")

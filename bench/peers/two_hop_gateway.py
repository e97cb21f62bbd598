"""What a team puts in front of it: a plain FastAPI proxy that validates the body and passes the stream on."""

import os
from collections.abc import AsyncIterator

import httpx2
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()
client = httpx2.AsyncClient(base_url=os.environ["ENGINE_URL"], timeout=120, limits=httpx2.Limits(max_connections=None))


class Question(BaseModel):
    base64_image: str
    prompt: str
    subject: str = "general"


async def _passed_on(question: Question) -> AsyncIterator[bytes]:
    async with client.stream("POST", "/api/v1/chat-image-stream", json=question.model_dump()) as response:
        async for piece in response.aiter_bytes():
            yield piece


@app.post("/api/ai/chat-image-stream")
async def chat_image_stream(question: Question) -> StreamingResponse:
    return StreamingResponse(_passed_on(question), media_type="text/event-stream")

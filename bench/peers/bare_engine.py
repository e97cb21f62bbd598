"""What gRPC between two services costs at the least: the model's deltas as messages, and nothing besides.

No check, no limit, no deadline, no log, no error is handled here, no answer is kept and nobody can come back to one.
"""

from __future__ import annotations

import base64
import os
import sys

os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")  # as the engine

from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import msgspec
import uvloop
from studyai.v1 import chat_pb2
from studyai.v1.chat_pb2 import ChatImageResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_URL = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"
_HEADERS = {"Content-Type": "application/json"}
_SERVICE = "studyai.v1.ChatService"


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Chunk).decode


class Engine:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def answer(self, request: chat_pb2.ChatImageRequest, context: Any) -> None:
        started = chat_pb2.AnswerStarted(answer_id="a", session_id="s", model="bench")
        await context.write(ChatImageResponse(started=started))
        sequence = 0
        async for text in self._texts(_body(request.question)):
            sequence += 1
            await context.write(ChatImageResponse(sequence=sequence, text_delta=chat_pb2.TextDelta(text=text)))
        finished = chat_pb2.AnswerFinished(finish_reason=chat_pb2.FINISH_REASON_STOP)
        await context.write(ChatImageResponse(sequence=sequence + 1, finished=finished))

    async def _texts(self, body: bytes) -> AsyncIterator[str]:
        rest = b""
        async with self._session.post(_URL, data=body, headers=_HEADERS) as response:
            while piece := await response.content.readany():
                *events, rest = (rest + piece).split(b"\n\n")
                chunks = [_decode(event[6:]) for event in events if event != b"data: [DONE]"]
                if text := "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices):
                    yield text


def _body(question: chat_pb2.ImageQuestion) -> bytes:
    url = f"data:image/jpeg;base64,{base64.b64encode(question.image).decode()}"
    content = [{"type": "text", "text": question.prompt}, {"type": "image_url", "image_url": {"url": url}}]
    return msgspec.json.encode({"model": "bench", "stream": True, "messages": [{"role": "user", "content": content}]})


async def _serve(port: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answer = grpc.unary_stream_rpc_method_handler(
            Engine(session).answer, chat_pb2.ChatImageRequest.FromString, ChatImageResponse.SerializeToString
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"ChatImage": answer})])
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[-1])))

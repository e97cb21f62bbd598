"""The gateway of the bare pair: each message of the engine as one accumulated event, written by hand."""

from __future__ import annotations

import base64
import functools
import json
import os

os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")  # as the gateway

from json.encoder import encode_basestring_ascii
from typing import Any

import grpc
from studyai.v1 import chat_pb2, chat_pb2_grpc

_HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


@functools.cache
def _engine() -> Any:
    return chat_pb2_grpc.ChatServiceStub(grpc.aio.insecure_channel(os.environ["ENGINE_URL"].removeprefix("http://")))


async def app(scope: Any, receive: Any, send: Any) -> None:
    asked = json.loads(await _read(receive))
    image = base64.b64decode(asked["base64_image"])
    request = chat_pb2.ChatImageRequest(question=chat_pb2.ImageQuestion(image=image, prompt=asked["prompt"]))
    await send(_HEAD)
    content = bytearray()
    async for message in _engine().ChatImage(request):
        await send({"type": "http.response.body", "body": _event(message, content), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return body


def _event(message: chat_pb2.ChatImageResponse, content: bytearray) -> bytes:
    kind = message.WhichOneof("event")
    if kind == "text_delta":
        delta = encode_basestring_ascii(message.text_delta.text)[1:-1].encode()
        content += delta
        head = b'id: %d\ndata: {"type":"content","content":"' % message.sequence
        return b"".join((head, content, b'","delta":"', delta, b'"}\n\n'))
    return b'id: %d\ndata: {"type":"%b"}\n\n' % (message.sequence, b"start" if kind == "started" else b"end")

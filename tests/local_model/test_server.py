"""The HTTP side over real sockets, with a reader that the test commands."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import requests
import uvicorn
from PIL import Image

from local_model.server import create_app
from tests.local_model.asking import DATA, about, data_url, image_part, text_part

_JSON = ("Content-Type: application/json", "", "")
PICTURE = (DATA / "landscape.png").read_bytes()


class Reader:
    """Reads nothing until it is let go; writes down what happens to it."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.started = threading.Semaphore(0)
        self.given_up = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.readings = 0

    def __call__(self, image: Image.Image, given_up: Callable[[], bool]) -> list[str]:
        self.readings += 1
        self.started.release()
        while not self.let_go.wait(0.005):
            if given_up():
                self.given_up.release()
                raise RuntimeError("nobody waits")
        if self.failure:
            raise self.failure
        return ["2x + 5 = 17"]


@contextlib.asynccontextmanager
async def serving(reader: Reader, tokens_per_second: float = 0) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(reader, tokens_per_second), log_config=None, lifespan="off", http="h11")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        reader.let_go.set()
        server.should_exit = True
        async with asyncio.timeout(5):
            await task


async def post(base_url: str, body: Any, **options: Any) -> requests.Response:
    url = f"{base_url}/chat/completions"
    return await asyncio.to_thread(requests.post, url, json=body, timeout=5, **options)


@contextlib.asynccontextmanager
async def asking(base_url: str, **fields: Any) -> AsyncIterator[asyncio.StreamReader]:
    """Asks about a picture on a connection of its own, and leaves at the end of the block."""
    body = json.dumps({"model": "m", "messages": about(PICTURE, "What is x?"), **fields}).encode()
    port = int(base_url.removesuffix("/v1").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = ("POST /v1/chat/completions HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *_JSON)
    writer.write("\r\n".join(head).encode() + body)
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def reached(semaphore: threading.Semaphore) -> bool:
    return await asyncio.to_thread(semaphore.acquire, timeout=5)


@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_leaves_takes_its_reading_with_it(stream: bool) -> None:
    reader = Reader()
    async with serving(reader) as base_url:
        async with asking(base_url, stream=stream):
            assert await reached(reader.started)
        assert await reached(reader.given_up)


async def test_client_that_leaves_the_queue_is_never_read() -> None:
    reader = Reader()
    async with serving(reader) as base_url:
        async with asking(base_url) as first:
            assert await reached(reader.started)
            async with asking(base_url):
                models = await asyncio.to_thread(requests.get, f"{base_url}/models", timeout=5)
                assert models.ok  # the loop goes on serving, so the second question has been taken up too
            await asyncio.to_thread(requests.get, f"{base_url}/models", timeout=5)
            reader.let_go.set()
            async with asyncio.timeout(5):
                assert b"200 OK" in await first.readline()
        assert (await post(base_url, {"model": "m", "messages": about(PICTURE, "x")})).ok
    assert reader.readings == 2


async def test_stream_keeps_the_pace_from_the_first_token_on() -> None:
    reader = Reader()
    reader.let_go.set()
    times = []
    async with (
        asyncio.timeout(5),
        serving(reader, tokens_per_second=200) as base_url,
        asking(base_url, stream=True, max_completion_tokens=40) as stream,
    ):
        async for line in stream:
            if line == b"data: [DONE]\n":
                break
            if b'"content":' in line and b'"role":' not in line:
                times.append(time.monotonic())
    assert len(times) == 40
    assert 0.19 < times[-1] - times[0] < 1


async def test_failure_inside_tells_nothing_of_the_picture(caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader()
    reader.failure = ValueError("the secret text")
    reader.let_go.set()
    with caplog.at_level(logging.DEBUG):
        async with serving(reader) as base_url:
            reply = await post(base_url, {"model": "m", "messages": about(PICTURE, "my secret question")})
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text + reply.text


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ("text", None, None),
        ({"model": "m"}, "messages", None),
        ({"model": "m", "messages": []}, "messages", None),
        ({"model": "m", "messages": about(None, "x"), "max_completion_tokens": 0}, "max_completion_tokens", None),
        ({"model": "m", "messages": [{"role": "user", "content": 7}]}, "messages.0.content", None),
        (user({"type": "input_audio"}), "messages.0.content.0", None),
        (
            user({"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}),
            "messages",
            "invalid_image_url",
        ),
        (user({"type": "image_url", "image_url": {"url": "https://example.com/a"}}), "messages", "invalid_image_url"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}), "messages", "invalid_base64"),
        (user(image_part(b"")), "messages", "invalid_image_format"),
        (user(image_part((DATA / "broken/bomb.png").read_bytes())), "messages", "image_too_large"),
    ],
)
async def test_bad_request_is_refused_in_the_shape_of_openai(body: Any, param: str | None, code: str | None) -> None:
    async with serving(Reader()) as base_url:
        reply = await post(base_url, body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error == {
        "message": error["message"],
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }
    assert error["message"]


async def test_body_that_is_no_json_is_refused() -> None:
    async with serving(Reader()) as base_url:
        url, headers = f"{base_url}/chat/completions", {"content-type": "application/json"}
        reply = await asyncio.to_thread(requests.post, url, data=b"{", headers=headers, timeout=5)
    assert reply.status_code == 400
    assert "JSON" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/chat/completions", 405)])
async def test_wrong_route_is_refused_in_the_shape_of_openai(method: str, path: str, status: int) -> None:
    async with serving(Reader()) as base_url:
        reply = await asyncio.to_thread(requests.request, method, base_url + path, timeout=5)
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_unknown_fields_are_ignored() -> None:
    body = {
        **user(text_part("1 + 1"), {"type": "text", "text": "2 + 2", "cache_control": {}}),
        "temperature": 0,
        "reasoning_effort": "low",
        "safety_identifier": "hash",
        "stream_options": None,
        "stream": None,
    }
    async with serving(Reader()) as base_url:
        reply = await post(base_url, body)
    assert "2 + 2 = **4**" in reply.json()["choices"][0]["message"]["content"]


async def test_picture_without_a_question_is_described() -> None:
    reader = Reader()
    reader.let_go.set()
    async with serving(reader) as base_url:
        reply = await post(base_url, user(image_part(PICTURE)))
    assert "“2x + 5 = 17”" in reply.json()["choices"][0]["message"]["content"]
    assert data_url(PICTURE) not in reply.text

"""The HTTP side: OpenAI's routes, and the pace at which an answer is streamed.

Pictures are read by one thread, one after the other, so that the event loop goes on serving. A client that
leaves takes its reading with it, wherever in the queue it stands.
"""

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from starlette.exceptions import HTTPException

from local_model import tokens
from local_model.answer import Seen, compose
from local_model.looking import UnreadablePicture, look
from local_model.wire import DONE, MODEL, ApiError, ChatRequest, Reply, usage

MAX_BODY_BYTES = 64 * 1024 * 1024

_CLIENT_CLOSED_REQUEST = 499

log = logging.getLogger("local_model")

ReadText = Callable[[Image.Image, Callable[[], bool]], list[str]]
"""Reads the lines of a picture; gives up soon after the function it is handed returns true."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said, cut into tokens."""

    pieces: list[str]
    finish_reason: str
    usage: dict[str, int]


def create_app(read_text: ReadText, tokens_per_second: float) -> FastAPI:
    """Returns the server's application.

    Args:
        read_text: called in one thread only.
        tokens_per_second: the pace of streams; 0 for none.
    """
    app = FastAPI(title="studyai local model", openapi_url=None, max_body_size=MAX_BODY_BYTES)
    eyes = _Eyes(read_text)
    started = int(time.time())
    _add_error_handlers(app)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        model = {"id": MODEL, "object": "model", "created": started, "owned_by": "studyai"}
        return {"object": "list", "data": [model]}

    @app.post("/v1/chat/completions", response_model=None)
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        answer = await _while_connected(request, _answer(body, eyes))
        if answer is None:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        if body.stream:
            frames = _frames(answer, body.include_usage, tokens_per_second)
            return StreamingResponse(frames, media_type="text/event-stream")
        return JSONResponse(Reply().completion("".join(answer.pieces), answer.finish_reason, answer.usage))

    return app


class _Eyes:
    """Looks at pictures in a thread of its own, one after the other."""

    def __init__(self, read_text: ReadText) -> None:
        self._read_text = read_text
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    async def see(self, data: bytes) -> Seen:
        """Returns what is in the picture; cancelled, it gives up its place in the queue or its reading.

        Raises:
            UnreadablePicture: if it cannot be decoded.
        """
        given_up = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._see, data, given_up)
        finally:
            given_up.set()

    def _see(self, data: bytes, given_up: threading.Event) -> Seen:
        picture = look(data)
        lines = self._read_text(picture.pixels, given_up.is_set)
        return Seen(
            format=picture.format,
            width=picture.width,
            height=picture.height,
            colours=picture.colours,
            lines=tuple(lines),
        )


async def _answer(body: ChatRequest, eyes: _Eyes) -> Answer:
    image = body.image()
    try:
        seen = await eyes.see(image) if image is not None else None
        pieces = tokens.split(compose(body.question(), seen))
    except UnreadablePicture as error:
        raise ApiError(400, str(error), param="messages", code=error.code) from error
    except Exception as error:  # the boundary: what reads raises whatever a picture provokes, and words may
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("could not answer: %s at %s:%s", type(error).__name__, place.name, place.lineno)  # noqa: TRY400 - its text may quote what was read
        raise ApiError(500, "The question could not be answered.") from error
    whole = body.token_limit is None or len(pieces) <= body.token_limit
    prompt_tokens = sum(len(tokens.split(text)) for text in body.texts())
    if seen is not None:
        prompt_tokens += tokens.image_tokens(seen.width, seen.height)
    said = pieces[: body.token_limit]
    return Answer(said, "stop" if whole else "length", usage(prompt_tokens, len(said)))


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer | None:
    """Returns what `work` returns, or nothing, with `work` cancelled, if the client leaves before."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def _left(request: Request) -> None:
    """Returns when the client has left; the body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _frames(answer: Answer, include_usage: bool, tokens_per_second: float) -> AsyncIterator[bytes]:
    """Streams `answer`, each token at its time: late ones do not delay those that follow."""
    reply = Reply(usage_follows=include_usage)
    clock = asyncio.get_running_loop().time
    start = clock()
    yield reply.delta({"role": "assistant", "content": "", "refusal": None})
    for number, piece in enumerate(answer.pieces):
        due = start + number / tokens_per_second if tokens_per_second else start
        await asyncio.sleep(due - clock())
        yield reply.delta({"content": piece})
    yield reply.delta({}, answer.finish_reason)
    if include_usage:
        yield reply.usage(answer.usage)
    yield DONE


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused_here(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        # Without what was sent: it may be a picture.
        place = ".".join(str(step) for step in first["loc"] if step != "body")
        return ApiError(400, f"{place or 'body'}: {first['msg']}", param=place or None).response()

    @app.exception_handler(HTTPException)
    async def refused_by_the_router(request: Request, error: HTTPException) -> Response:
        message = f"{error.detail} ({request.method} {request.url.path})"
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

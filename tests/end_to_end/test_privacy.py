"""What a student sent, what the model said and every secret appear in no log, error or file, whatever happens.

Everything that must not be seen has `canary` in it, so that one word is looked for, at debug level too. The services
run in folders that are empty before and after: there is nothing of anybody on the disk.
"""

from __future__ import annotations

import base64
import json
import signal
import time
from contextlib import ExitStack, chdir, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
import requests
from studyai.v1 import chat_pb2, chat_pb2_grpc

import tests.faults
from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET, body
from tests.engine import pictures as make
from tests.processes import Process, running_engine_process, running_gateway_process
from tests.redis_server import RedisServer, running_redis
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary"
PROMPT, ANSWER, SESSION = "canary-prompt", "canary-answer", "canary-session"
TOKEN, JWT_SECRET = "canary-service-token-0123456789abcdef", "canary-jwt-secret-0123456789abcdefgh"
PICTURE = make.jpeg(comment=b"canary-comment", xmp=b"<x:xmpmeta>canary-xmp</x:xmpmeta>")
IMAGE = base64.b64encode(WORKSHEET.read_bytes()).decode()
OPEN = up.stream_headers()
SSE = {"Accept": "text/event-stream"}


@dataclass
class Private:
    """The service, and everything that it has told anybody but the student who asked."""

    upstream: up.Upstream
    redis: RedisServer
    engine: Process
    gateway: Process
    guarded: Process
    """A gateway that wants a student's token."""
    folders: list[Path]
    told: list[str] = field(default_factory=list)
    held: list[Iterator[bytes]] = field(default_factory=list)

    def url(self, path: str, gateway: Process | None = None) -> str:
        return f"http://127.0.0.1:{(gateway or self.gateway).port}{path}"

    def ask(self, path: str = "/api/ai/chat-image-stream", **fields: Any) -> requests.Response:
        return self.send("POST", path, json=question(**fields))

    def send(self, method: str, path: str, gateway: Process | None = None, **more: Any) -> requests.Response:
        """Sends a request, and keeps what is told besides the answer's text and the session's name."""
        reply = requests.request(method, self.url(path, gateway), timeout=10, **more)
        self.told.append(str(reply.headers) + reply.text.replace(ANSWER, "").replace(SESSION, ""))
        return reply

    def begin(self, **headers: str) -> tuple[requests.Response, str]:
        """Asks, reads the first event and holds the stream open; returns the answer's id too."""
        reply = requests.post(
            self.url("/api/ai/chat-image-stream"), json=question(), headers=headers, stream=True, timeout=10
        )
        lines = reply.iter_lines(chunk_size=1)
        self.held.append(lines)  # what is collected closes the connection
        start = next(line for line in lines if line.startswith(b"data: "))
        return reply, json.loads(start[6:])["answer_id"]

    @property
    def logs(self) -> str:
        return self.engine.log + self.gateway.log + self.guarded.log

    def until(self, said: str) -> None:
        """Waits until the logs say this."""
        eventually(lambda: said in self.logs, told=lambda: self.logs)


def question(**fields: Any) -> dict[str, Any]:
    asked = {"prompt": PROMPT, "student_id": "canary-student", "session_id": SESSION, "subject": "canary-subject"}
    return body(**{**asked, **fields})


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    folders = [tmp_path_factory.mktemp(name) for name in ("cwd", "tmp", "home")]
    settings: dict[str, Any] = {
        "TMPDIR": str(folders[1]),
        "HOME": str(folders[2]),
        "LOG_LEVEL": "debug",
        "SERVICE_TOKEN": TOKEN,
    }
    # Breaks both services where a text says `break:`; see there.
    settings |= {"PYTHONPATH": str(Path(tests.faults.__file__).parent / "broken"), "DRAIN_SECONDS": "0"}
    # Silences of a busy machine are shorter: it would be told a model's that has said nothing wrong.
    deadlines = {"FIRST_TOKEN_TIMEOUT_SECONDS": "2", "STALL_TIMEOUT_SECONDS": "2", "RESUME_WINDOW_SECONDS": "0.5"}
    with ExitStack() as stack:
        upstream = stack.enter_context(up.running_upstream())
        redis = stack.enter_context(running_redis("canary-redis-password"))
        stack.enter_context(chdir(folders[0]))
        engine = running_engine_process(upstream.base_url, STATE_URL=redis.url, **settings, **deadlines)
        running = stack.enter_context(engine)
        gateway = stack.enter_context(running_gateway_process(running, HEARTBEAT_SECONDS="0.2", **settings))
        guarded = running_gateway_process(running, AUTH_JWT_KEY=JWT_SECRET, **settings)
        yield Private(upstream, redis, running, gateway, stack.enter_context(guarded), folders)


@pytest.fixture
def service(private: Private) -> Iterator[Private]:
    """The service; what is told and logged must be free of canaries after every test."""
    private.upstream.forget()
    yield private
    assert [text for text in private.told if CANARY in text] == []
    assert [line for line in private.logs.splitlines() if CANARY in line] == []


SAYS = up.chunk(ANSWER)
UPSTREAM: dict[str, list[Any]] = {
    "whole answer": [*up.answer(ANSWER, usage=(1, 2))],
    "400": [up.refusal(400, code="canary-upstream")],
    "401": [up.refusal(401, code="canary-upstream")],
    "429": [up.refusal(429, code="canary-upstream", headers={"Retry-After": "60"})],
    "500": [up.refusal(500, code="canary-upstream", headers={"Retry-After": "60"})],
    "page": [up.reply(200, b"<html>canary-upstream</html>", {"content-type": "text/html"})],
    "redirect": [up.reply(302, headers={"Location": "http://127.0.0.1:9/canary-upstream"})],
    "no HTTP": [up.wire(b"canary-upstream\r\n\r\n"), up.close()],
    "bad header": [up.wire(b"HTTP/1.1 200 OK\r\ncanary upstream\r\n\r\n"), up.close()],
    "bad chunk": [OPEN, SAYS, up.wire(b"canary-upstream\r\n"), up.close()],
    "reset": [OPEN, SAYS, up.reset()],
    "cut": [OPEN, SAYS, up.close()],
    "no JSON": [OPEN, up.raw(b'data: {"canary-upstream"\n\n')],
    "no text": [OPEN, up.raw(b'data: {"choices":[{"delta":{"content":{"canary-upstream":1}}}]}\n\n')],
    "error object": [OPEN, SAYS, up.error_object("canary-upstream", "canary-upstream")],
    "endless line": [OPEN, up.raw(b"data: " + b"canary-upstream" * 100_000)],
    "silence at first": [up.silence()],
    "silence later": [OPEN, SAYS, up.silence()],
}


@pytest.mark.parametrize("steps", UPSTREAM.values(), ids=UPSTREAM)
def test_whatever_the_model_does(service: Private, steps: list[Any]) -> None:
    for path in ("/api/ai/chat-image-stream", "/api/ai/chat-image", "/api/v1/chat-image-stream"):
        service.upstream.default(*steps)
        service.ask(path)
        # A model that always fails would not be asked any more.
        service.upstream.forget()
        assert service.ask().ok


def test_whatever_the_client_does(service: Private) -> None:
    gone, _ = service.begin()
    gone.close()
    service.upstream.default(OPEN, *[SAYS, up.pause(0.1)] * 100)
    key = {"Idempotency-Key": "canary-key"}
    reading, answer_id = service.begin(**key)
    path = f"/api/ai/answers/{answer_id}"
    service.send("GET", path, headers=SSE)
    service.send("GET", f"{path}?student_id=canary-other")
    service.send("GET", f"{path}?student_id=canary/other", headers={**SSE, "Last-Event-ID": "canary"})
    service.send("POST", "/api/ai/chat-image", json=question(subject="canary-another"), headers=key)
    with closing(requests.get(service.url(f"{path}?student_id=canary-student"), headers=SSE, stream=True, timeout=10)):
        reading.close()
        service.send("DELETE", f"{path}?student_id=canary-student")
    service.send("GET", f"{path}?student_id=canary-student", headers=SSE)
    service.until('"outcome": "client_gone"')
    service.until('"outcome": "stopped"')


BODIES: dict[str, Any] = {
    "no JSON": b"canary{",
    "no object": b'["canary"]',
    "no UTF-8": b'{"prompt": "canary\xff"}',
    "half a pair": b'{"prompt": "canary\\ud800"}',
    "prompt of another type": question(prompt=["canary"]),
    "long prompt": question(prompt="canary" * 1000),
    "unseen prompt": question(prompt="\u200b", canary="canary"),
    "student with a line break": question(student_id="canary\n"),
    "session with an escape": question(session_id="\x1b[31mcanary"),
    "long subject": question(subject="canary" * 20),
    "no base64": question(base64_image="canary-image*"),
    "an address": question(base64_image="http://127.0.0.1:9/canary.png"),
    "no picture": question(base64_image=base64.b64encode(b"canary-image").decode()),
    "broken picture": question(base64_image=base64.b64encode(PICTURE[:-20]).decode()),
    "too large": b'{"prompt": "canary' + b" " * 3_200_000 + b'"}',
    "compressed": b"\x1f\x8bcanary",
}


@pytest.mark.parametrize("sent", BODIES.values(), ids=BODIES)
def test_whatever_a_body_is(service: Private, sent: Any) -> None:
    data = sent if isinstance(sent, bytes) else json.dumps({**question(), **sent}).encode()
    for path in ("/api/ai/chat-image-stream", "/api/ai/chat-image"):
        reply = service.send("POST", path, data=data)
        assert reply.status_code in (400, 413, 415, 422)


def test_whatever_stands_in_the_head(service: Private) -> None:
    for path in ("/canary", "/api/ai/answers/canary", "/docs/assets/canary", "/healthz?canary=canary", "/%0acanary"):
        service.send("GET", path)
    canaries = ("Authorization", "Cookie", "User-Agent", "Idempotency-Key", "X-Forwarded-For", "Content-Encoding")
    for header in (*canaries, "Content-Type", "Accept", "X-Request-Timeout-Ms", "Origin", "Traceparent"):
        service.send("POST", "/api/ai/chat-image", json=question(), headers={header: "canary value"})
    service.send("CANARY", "/api/ai/chat-image")


def test_whatever_a_token_is(service: Private) -> None:
    sent = {"sub": "canary-student", "exp": int(time.time()) + 60}
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    tokens = [
        jwt.encode(sent, JWT_SECRET),
        jwt.encode(sent, "canary-other-secret-0123456789abcdefgh"),
        jwt.encode({**sent, "exp": 1}, JWT_SECRET),
        jwt.encode({**sent, "sub": ""}, JWT_SECRET),
        jwt.encode({**sent, "sub": "canary student\n" * 20}, JWT_SECRET),
        f"{none}.{jwt.encode(sent, JWT_SECRET).split('.')[1]}.",
        "canary",
    ]
    for token in tokens:
        for asked in (question(), question(student_id="canary-other")):
            service.send(
                "POST", "/api/ai/chat-image", service.guarded, json=asked, headers={"Authorization": f"Bearer {token}"}
            )
        assert token not in service.logs
        assert token.rpartition(".")[2] == "" or token.rpartition(".")[2] not in service.logs


def test_whatever_an_internal_caller_sends(service: Private) -> None:
    secret = (("authorization", f"Bearer {TOKEN}"),)
    asked = chat_pb2.ImageQuestion(image=PICTURE, prompt=PROMPT, student_id="canary-student")
    with grpc.insecure_channel(f"127.0.0.1:{service.engine.port}") as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        whole = chat_pb2.CompleteChatImageRequest(question=asked)
        bad = chat_pb2.CompleteChatImageRequest(question=asked, request_id="canary key\n")
        for message, metadata in ((whole, secret), (bad, secret), (whole, (("authorization", "Bearer canary"),))):
            with suppress(grpc.RpcError):
                stub.CompleteChatImage(message, metadata=metadata)
        for method in ("CompleteChatImage", "Canary", "ChatImage"):
            with suppress(grpc.RpcError):
                raw: Any = channel.unary_unary(f"/studyai.v1.ChatService/{method}")
                raw(b"\xffcanary", metadata=(*secret, ("x-request-id", "canary with spaces"), ("x-canary", "canary")))
        with pytest.raises(grpc.RpcError) as refused:
            stub.CompleteChatImage(bad, metadata=secret)
        assert CANARY not in str(refused.value)


@pytest.mark.parametrize("place", ["asking", "reading", "appending", "sending", "ending"])
def test_whatever_breaks_in_the_engine(service: Private, place: str) -> None:
    service.upstream.default(*up.answer(f"{ANSWER} break:{place}"))
    service.ask(prompt=f"{PROMPT} break:{place}" if place == "asking" else PROMPT)
    service.until("RuntimeError")


@pytest.mark.parametrize("place", ["folding", "writing", "closing"])
def test_whatever_breaks_in_the_gateway(service: Private, place: str) -> None:
    service.upstream.default(*up.answer(f"{ANSWER} break:{place}"))
    before = len(service.gateway.log)
    with suppress(requests.RequestException):
        service.ask()
    eventually(lambda: "RuntimeError" in service.gateway.log[before:], told=lambda: service.gateway.log[before:])


def test_whatever_becomes_of_redis(service: Private) -> None:
    service.redis.kill()
    service.ask()
    service.send("POST", "/api/ai/chat-image", json=question(), headers={"Idempotency-Key": "canary-outage"})
    service.send("GET", "/api/ai/answers/canary", headers=SSE)
    service.until("redis")
    service.redis.start()
    service.ask()


def test_nothing_is_left_when_all_is_over(private: Private) -> None:
    private.upstream.forget()
    private.upstream.default(OPEN, SAYS, up.silence())
    streams = [private.begin() for _ in range(2)]
    processes = (private.guarded, private.gateway, private.engine)
    statuses = [process.stop(signal.SIGTERM) for process in processes]
    for reply, _ in streams:
        reply.close()
    assert statuses == [0, 0, 0]
    logs = private.logs
    assert len(logs.splitlines()) > 100
    assert CANARY not in logs
    assert not [start for start in range(0, len(IMAGE) - 40, 400) if IMAGE[start : start + 40] in logs]
    assert all(isinstance(json.loads(line), dict) for line in logs.splitlines())
    assert [path for folder in private.folders for path in folder.rglob("*")] == []

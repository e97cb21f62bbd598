"""Two engines that share a Redis, two gateways in front: as good as one."""

from __future__ import annotations

import itertools
import json
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
import requests
from redis import Redis
from studyai.v1 import chat_pb2, chat_pb2_grpc

from engine_grpc.question import ANONYMOUS
from engine_grpc.redis_scripts import session_name
from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET, body
from tests.processes import Process, running_engine_process, running_gateway_process
from tests.redis_server import running_redis
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.redis_server import RedisServer

WORDS = ["The", " answer", " is", " 6."]
STUDENTS = ["anna", "ben"]


@dataclass(frozen=True)
class Cluster:
    """The whole service, twice."""

    upstream: up.Upstream
    redis: RedisServer
    engines: list[Process]
    gateways: list[Process]

    def url(self, place: int, path: str = "/api/ai/chat-image") -> str:
        return f"http://127.0.0.1:{self.gateways[place % 2].port}{path}"


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        upstream = stack.enter_context(up.running_upstream())
        redis = stack.enter_context(running_redis())
        engines = [
            stack.enter_context(running_engine_process(upstream.base_url, STATE_URL=redis.url)) for _ in range(2)
        ]
        # Each gateway has its favourite, so that a test can tell which engine it asks.
        gateways = [stack.enter_context(running_gateway_process(engine)) for engine in engines]
        yield Cluster(upstream, redis, engines, gateways)


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    running_cluster.upstream.forget()
    return running_cluster


def gated(cluster: Cluster) -> list[up.Signal]:
    gates = [up.Signal() for _ in WORDS]
    cluster.upstream.script(up.stream_headers(), up.gated(gates, WORDS), up.finish(), up.usage(30, 20), up.done())
    return gates


def test_fifty_at_once_with_one_key_over_routes_and_gateways_ask_the_model_once(cluster: Cluster) -> None:
    gates = gated(cluster)
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    def ask(number: int) -> str:
        path = ("/api/ai/chat-image", "/api/ai/chat-image-stream")[number // 2 % 2]
        reply = requests.post(cluster.url(number, path), json=body(), headers=headers, timeout=20)
        assert reply.status_code == 200, reply.text
        if path.endswith("stream"):
            return str(json.loads(reply.text.strip().rsplit("data: ", 1)[1])["content"])
        return str(reply.json()["response"])

    with ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(ask, number) for number in range(50)]
        cluster.upstream.block_request()
        for opening in gates:
            opening.set()
        texts = [asked.result() for asked in asking]
    assert texts == ["".join(WORDS)] * 50
    assert len(cluster.upstream.requests) == 1


def until_remembered(cluster: Cluster, student: str, session: str) -> None:
    """Waits for a session's picture and turn, which an engine gives to Redis beside its answer."""
    name = session_name(student, session)
    with Redis.from_url(cluster.redis.url) as store:
        eventually(lambda: store.exists(f"{name}:picture", f"{name}:turns") == 2)


def test_follow_up_on_another_engine_is_about_the_earlier_picture(cluster: Cluster) -> None:
    session = f"chat-{uuid.uuid4()}"
    requests.post(cluster.url(0), json=body(session_id=session), timeout=10)
    until_remembered(cluster, ANONYMOUS, session)
    again = requests.post(cluster.url(1), json={"prompt": "Why?", "session_id": session}, timeout=10)
    assert again.status_code == 200
    first, second = (asked.json["messages"] for asked in cluster.upstream.requests)
    assert second[-1]["content"][-1] == first[-1]["content"][-1]
    assert second[2] == {"role": "assistant", "content": "Hello there."}


def test_answer_is_resumed_and_stopped_through_the_other_gateway(cluster: Cluster) -> None:
    gates = gated(cluster)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    with requests.post(
        cluster.url(0, "/api/ai/chat-image-stream"), json=body(), headers=headers, stream=True, timeout=10
    ) as reply:
        lines = (line for line in reply.iter_lines(chunk_size=1) if line.startswith(b"data: "))
        answer_id = json.loads(next(lines)[6:])["answer_id"]
        gates[0].set()
        next(lines)
        url = cluster.url(1, f"/api/ai/answers/{answer_id}")
        with requests.get(
            url, headers={"Accept": "text/event-stream", "Last-Event-ID": "1"}, stream=True, timeout=10
        ) as resumed:
            rest = (line for line in resumed.iter_lines(chunk_size=1) if line.startswith(b"data: "))
            gates[1].set()
            assert json.loads(next(rest)[6:]) == {"type": "content", "content": "The answer", "delta": " answer"}
            since = time.monotonic()
            assert requests.delete(url, timeout=10).status_code == 204
            assert json.loads(next(rest)[6:])["finish_reason"] == "stopped"
        assert json.loads(list(lines)[-1][6:])["finish_reason"] == "stopped"
    asked = cluster.upstream.block_request()
    asked.closed.block()
    assert asked.closed_at is not None
    assert asked.closed_at - since < 0.25


def test_answers_sessions_and_keys_of_one_student_are_nothing_to_another(cluster: Cluster) -> None:
    key, session = str(uuid.uuid4()), f"chat-{uuid.uuid4()}"
    answers = {}
    for number, student in enumerate(STUDENTS):
        cluster.upstream.script(*up.answer(f"for {student}"))
        asks = body(student_id=student, session_id=session, prompt=f"of {student}")
        reply = requests.post(cluster.url(number), json=asks, headers={"Idempotency-Key": key}, timeout=10)
        answers[student] = reply.json()
        until_remembered(cluster, student, session)
    assert [answers[student]["response"] for student in STUDENTS] == ["for anna", "for ben"]
    for owner, student, place in itertools.product(STUDENTS, [*STUDENTS, ""], range(2)):
        url = cluster.url(place, f"/api/ai/answers/{answers[owner]['answer_id']}")
        read: list[Callable[..., requests.Response]] = [requests.get, requests.delete]
        for call, accept in itertools.product(read, ["application/json", "text/event-stream"]):
            reply = call(url, params={"student_id": student}, headers={"Accept": accept}, timeout=10)
            assert (reply.status_code in (200, 204)) is (owner == student)
            assert (f"for {owner}" in reply.text) is (owner == student and call is requests.get)
    for student, place in itertools.product(STUDENTS, range(2)):
        asks = {"prompt": "Again?", "student_id": student, "session_id": session}
        requests.post(cluster.url(place), json=asks, timeout=10)
        other = next(name for name in STUDENTS if name != student)
        assert f"of {other}" not in cluster.upstream.requests[-1].body.decode()
        assert f"of {student}" in cluster.upstream.requests[-1].body.decode()


def test_internal_consumer_resumes_over_grpc_on_the_other_engine(cluster: Cluster) -> None:
    asks = chat_pb2.ImageQuestion(image=WORKSHEET.read_bytes(), prompt="What is x?", student_id="anna")
    stubs = []
    with ExitStack() as stack:
        for engine in cluster.engines:
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{engine.port}"))
            stubs.append(chat_pb2_grpc.ChatServiceStub(channel))
        first = list(stubs[0].ChatImage(chat_pb2.ChatImageRequest(question=asks, request_id=str(uuid.uuid4()))))
        resume = chat_pb2.ResumeAnswerRequest(answer_id=first[0].started.answer_id, student_id="anna")
        replayed = list(stubs[1].ResumeAnswer(resume))
    assert replayed[0].started == first[0].started
    assert replayed[-1].finished == first[-1].finished
    assert "".join(m.text_delta.text for m in replayed) == "".join(m.text_delta.text for m in first)


def test_readers_of_a_killed_engines_answer_are_told_within_ten_seconds(cluster: Cluster) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis())
        engines = [
            stack.enter_context(running_engine_process(cluster.upstream.base_url, STATE_URL=redis.url))
            for _ in range(2)
        ]
        gateways = [stack.enter_context(running_gateway_process(engine)) for engine in engines]
        cluster.upstream.script(up.stream_headers(), up.chunk("Hi"), up.silence())
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        url = f"http://127.0.0.1:{gateways[0].port}/api/ai/chat-image-stream"
        with requests.post(url, json=body(), headers=headers, stream=True, timeout=10) as reply:
            lines = (line for line in reply.iter_lines(chunk_size=1) if line.startswith(b"data: "))
            answer_id = json.loads(next(lines)[6:])["answer_id"]
            next(lines)
            elsewhere = f"http://127.0.0.1:{gateways[1].port}/api/ai/answers/{answer_id}"
            with requests.get(elsewhere, headers={"Accept": "text/event-stream"}, stream=True, timeout=20) as other:
                rest = (line for line in other.iter_lines(chunk_size=1) if line.startswith(b"data: "))
                next(rest)
                since = time.monotonic()
                engines[0].stop(signal.SIGKILL)
                for told in (list(lines)[-1], list(rest)[-1]):
                    event = json.loads(told[6:])
                    assert (event["code"], event["retryable"]) == ("ENGINE_UNAVAILABLE", True)
                assert time.monotonic() - since < 10
        again = requests.post(
            elsewhere.split("/answers", maxsplit=1)[0] + "/chat-image", json=body(), headers=headers, timeout=20
        )
        assert again.json()["response"] == "Hello there."

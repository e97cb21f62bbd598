"""Answers that outlive the connection, as HTTP clients use them."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests import upstream as up
from tests.chromium import running_chromium
from tests.end_to_end.conftest import body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Service

WORDS = ["The", " answer", ' is "6"', ".\n", "数学 👩‍🏫"]
TEXT = "".join(WORDS)
SSE = {"Accept": "text/event-stream"}


def scripted(service: Service) -> list[up.Signal]:
    """Scripts an answer whose words wait for the gates that this returns."""
    gates = [up.Signal() for _ in WORDS]
    service.upstream.script(up.stream_headers(), up.gated(gates, WORDS), up.finish(), up.usage(30, 20), up.done())
    return gates


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def events_of(reply: requests.Response) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Each event's number and data."""
    number = None
    for line in reply.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("id: "):
            number = int(line[4:])
        if line.startswith("data: "):
            yield number, json.loads(line[6:])
            number = None


def begin(service: Service, gates: list[up.Signal], words: int, **fields: Any) -> tuple[str, int, str]:
    """Asks with a key, reads so many words and hangs up; returns the answer's id, the last event's number, the key."""
    headers = key()
    with closing(requests.post(service.stream_url, json=body(**fields), headers=headers, stream=True, timeout=10)) as r:
        events = events_of(r)
        _, start = next(events)
        number = 0
        for opening in gates[:words]:
            opening.set()
            seen, _ = next(events)
            number = seen or 0
    return start["answer_id"], number, headers["Idempotency-Key"]


def resume(service: Service, answer_id: str, after: int | None = None, **query: str) -> requests.Response:
    headers = SSE if after is None else {**SSE, "Last-Event-ID": str(after)}
    url = f"{service.url}/api/ai/answers/{answer_id}"
    return requests.get(url, headers=headers, params=query, stream=True, timeout=10)


def test_resumed_stream_goes_on_after_the_last_event_with_content_whole(service: Service) -> None:
    gates = scripted(service)
    answer_id, number, _ = begin(service, gates, 2)
    with resume(service, answer_id, number) as reply:
        assert reply.status_code == 200
        events = events_of(reply)
        gates[2].set()
        seen, event = next(events)
        assert seen is not None
        assert seen > number
        assert event == {"type": "content", "content": "".join(WORDS[:3]), "delta": WORDS[2]}
        for opening in gates:
            opening.set()
        rest = list(events)
    assert "".join(event.get("delta", "") for _, event in rest) == "".join(WORDS[3:])
    assert rest[-1][1]["type"] == "end"
    assert rest[-1][1]["content"] == TEXT
    assert len(service.upstream.requests) == 1


def test_missed_part_comes_as_the_first_events_delta(service: Service) -> None:
    gates = scripted(service)
    answer_id, number, _ = begin(service, gates, 1)
    with closing(requests.get(f"{service.url}/api/ai/answers/{answer_id}", headers=SSE, stream=True, timeout=10)) as r:
        events = events_of(r)
        assert next(events)[1]["type"] == "start"
        for opening in gates:
            opening.set()
        while next(events)[1]["type"] != "end":
            pass
    with resume(service, answer_id, number) as reply:
        (_, missed), (last, end) = events_of(reply)
    assert missed == {"type": "content", "content": TEXT, "delta": "".join(WORDS[1:])}
    assert end["type"] == "end"
    assert last is not None
    assert last > number


def test_replay_is_the_answer_from_its_start(service: Service) -> None:
    first = requests.post(service.stream_url, json=body(), timeout=10)
    answer_id = json.loads(first.text.split("data: ")[1].split("\n")[0])["answer_id"]
    with resume(service, answer_id) as reply:
        replayed = [event for _, event in events_of(reply)]
    assert replayed[0]["type"] == "start"
    assert replayed[-1] == json.loads(first.text.strip().splitlines()[-1].removeprefix("data: "))
    with resume(service, answer_id, 0, accumulate="false") as reply:
        without = [event for _, event in events_of(reply)]
    assert [event["type"] for event in without] == ["content", "end"]
    assert "content" not in without[0]


def test_nothing_after_the_last_event_is_204(service: Service) -> None:
    first = requests.post(service.stream_url, json=body(), timeout=10)
    answer_id = json.loads(first.text.split("data: ")[1].split("\n")[0])["answer_id"]
    last = int(first.text.rsplit("id: ", 1)[1].split("\n")[0])
    assert resume(service, answer_id, last).status_code == 204
    beyond = resume(service, answer_id, last + 1)
    assert beyond.status_code == 400
    assert beyond.json()["code"] == "INVALID_REQUEST"


def test_finished_answer_is_fetched_as_json_and_an_unfinished_one_is_202(service: Service) -> None:
    gates = scripted(service)
    answer_id, _, _ = begin(service, gates, 2)
    url = f"{service.url}/api/ai/answers/{answer_id}"
    early = requests.get(url, timeout=10)
    assert early.status_code == 202
    assert early.headers["Retry-After"] == "1"
    assert early.json() == {"answer_id": answer_id, "status": "in_progress"}
    for opening in gates:
        opening.set()
    with resume(service, answer_id) as reply:
        assert [event for _, event in events_of(reply)][-1]["type"] == "end"
    done = requests.get(url, timeout=10)
    assert done.status_code == 200
    assert (done.json()["response"], done.json()["tokens_used"]) == (TEXT, 50)


def test_fallback_with_the_key_gives_the_answer_that_the_stream_began(service: Service) -> None:
    gates = scripted(service)
    answer_id, _, used = begin(service, gates, 2)
    for opening in gates:
        opening.set()
    reply = requests.post(
        f"{service.url}/api/ai/chat-image", json=body(), headers={"Idempotency-Key": used}, timeout=10
    ).json()
    assert (reply["answer_id"], reply["response"]) == (answer_id, TEXT)
    assert len(service.upstream.requests) == 1


def test_key_with_another_body_is_422(service: Service) -> None:
    headers = key()
    requests.post(service.stream_url, json=body(), headers=headers, timeout=10)
    for path in ("chat-image-stream", "chat-image"):
        refused = requests.post(
            f"{service.url}/api/ai/{path}", json=body(prompt="Another?"), headers=headers, timeout=10
        )
        assert refused.status_code == 422
        assert refused.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.parametrize("wrong", ["", "a b", "é".encode().decode("latin-1"), "x" * 129])
def test_key_that_breaks_the_rules_is_400(service: Service, wrong: str) -> None:
    refused = requests.post(service.stream_url, json=body(), headers={"Idempotency-Key": wrong}, timeout=10)
    assert refused.status_code == 400
    assert "Idempotency-Key" in refused.json()["error"]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "1.0", "1_0", "99999999999", ""])
def test_garbage_as_last_event_id_is_400(service: Service, after: str) -> None:
    url = f"{service.url}/api/ai/answers/{'0' * 32}"
    refused = requests.get(url, headers={**SSE, "Last-Event-ID": after}, timeout=10)
    assert refused.status_code == 400
    assert "Last-Event-ID" in refused.json()["error"]


def test_event_that_the_answer_does_not_have_is_told_by_the_headers_name(service: Service) -> None:
    ended = requests.post(service.stream_url, json=body(), headers={"Idempotency-Key": str(uuid.uuid4())}, timeout=10)
    answer_id = json.loads(ended.text.split("data: ")[1].split("\n")[0])["answer_id"]
    refused = requests.get(
        f"{service.url}/api/ai/answers/{answer_id}", headers={**SSE, "Last-Event-ID": "99"}, timeout=10
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_REQUEST")
    assert refused.json()["error"].startswith("Last-Event-ID: ")


def test_answers_of_others_and_unknown_ones_are_404(service: Service) -> None:
    first = requests.post(service.stream_url, json=body(student_id="anna"), timeout=10)
    theirs = json.loads(first.text.split("data: ")[1].split("\n")[0])["answer_id"]
    assert resume(service, theirs, student_id="anna").status_code == 200
    for answer_id, query in ((theirs, {}), (theirs, {"student_id": "ben"}), ("0" * 32, {}), ("%00", {}), ("é", {})):
        url = f"{service.url}/api/ai/answers/{answer_id}"
        for reply in (
            requests.get(url, params=query, timeout=10),
            requests.get(url, params=query, headers=SSE, timeout=10),
            requests.delete(url, params=query, timeout=10),
        ):
            assert reply.status_code == 404
            assert reply.json()["code"] == "ANSWER_NOT_FOUND"


def test_delete_ends_the_stream_with_stopped_and_closes_the_models_connection(service: Service) -> None:
    gates = scripted(service)
    with requests.post(service.stream_url, json=body(), stream=True, timeout=10) as reply:
        events = events_of(reply)
        _, start = next(events)
        gates[0].set()
        next(events)
        since = time.monotonic()
        url = f"{service.url}/api/ai/answers/{start['answer_id']}"
        assert requests.delete(url, timeout=10).status_code == 204
        ((_, end),) = events
    asked = service.upstream.block_request()
    asked.closed.block()
    assert asked.closed_at is not None
    assert asked.closed_at - since < 0.25
    assert (end["type"], end["finish_reason"], end["content"]) == ("end", "stopped", WORDS[0])
    assert end["usage"]["estimated"] is True
    assert requests.delete(url, timeout=10).status_code == 204
    assert requests.get(url, timeout=10).json()["finish_reason"] == "stopped"


def test_follow_up_without_a_picture_is_about_the_sessions_last(service: Service) -> None:
    requests.post(service.stream_url, json=body(session_id="chat-7"), timeout=10)
    follow_up = {"prompt": "Why?", "session_id": "chat-7"}
    again = requests.post(f"{service.url}/api/ai/chat-image", json=follow_up, timeout=10)
    assert again.status_code == 200
    pictures = [asked.json["messages"][-1]["content"][-1] for asked in service.upstream.requests]
    assert pictures[0] == pictures[1]
    refused = requests.post(service.stream_url, json={"prompt": "Why?", "session_id": "chat-8"}, timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_REQUEST")


EVENT_SOURCE = """url => new Promise((resolve, reject) => {
  const events = [], source = new EventSource(url);
  source.onmessage = message => {
    events.push([message.lastEventId, JSON.parse(message.data)]);
    window.gotEvent(events.length);
  };
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(events); };
})"""


def test_browsers_eventsource_reads_the_answer_to_its_end_and_stays_closed(service: Service) -> None:
    gates = scripted(service)
    answer_id, _, _ = begin(service, gates, 1)
    with running_chromium() as browser:
        page = browser.new_page()
        page.expose_function("gotEvent", lambda count: gates[min(count - 1, len(gates) - 1)].set())
        page.goto(f"{service.url}/healthz")
        events = page.evaluate(EVENT_SOURCE, f"{service.url}/api/ai/answers/{answer_id}")
    assert [event["type"] for _, event in events] == ["start", *["content"] * len(WORDS), "end"]
    assert [int(number) for number, _ in events] == list(range(len(WORDS) + 2))
    assert events[-1][1]["content"] == TEXT

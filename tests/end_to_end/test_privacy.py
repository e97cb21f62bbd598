"""What a student sent, and the service's key, appear in no log, whatever happens, at debug level too."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import requests

from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET, body

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service

PROMPT, STUDENT, SESSION, SUBJECT = "canary-prompt", "canary-student", "canary-session", "canary-subject"
CANARIES = [PROMPT, STUDENT, SESSION, SUBJECT, "canary-answer", "canary-upstream", "sk-canary-key"]
IMAGE = base64.b64encode(WORKSHEET.read_bytes()).decode()[100:140]


def test_logs_hold_nothing_of_the_student_and_no_key(service: Service) -> None:
    upstream = service.upstream
    asks = body(prompt=PROMPT, student_id=STUDENT, session_id=SESSION, subject=SUBJECT)
    open_stream = up.stream_headers()
    for steps in (
        up.answer("canary-answer", usage=(1, 2)),
        [up.refusal(400, code="canary-upstream")],
        [up.refusal(401, code="canary-upstream")],
        [up.html(200)],
        [open_stream, up.chunk("canary-answer"), up.reset()],
        [open_stream, up.raw(b'data: {"canary-upstream"\n\n')],
        [open_stream, up.error_object("canary-upstream")],
    ):
        for url in (service.stream_url, f"{service.url}/api/ai/chat-image"):
            upstream.forget()
            upstream.default(*steps)
            reply = requests.post(url, json=asks, timeout=10)
            assert not [
                canary for canary in (*CANARIES[:4], *CANARIES[5:]) if canary in reply.text.replace(SESSION, "")
            ]
    for broken in ({"prompt": PROMPT, "base64_image": PROMPT}, {"prompt": [PROMPT]}, {"student_id": f"{STUDENT}\n"}):
        requests.post(service.stream_url, json={**asks, **broken}, timeout=10)
    requests.post(service.stream_url, data=f"not json {PROMPT}".encode(), timeout=10)
    requests.get(f"{service.url}/{PROMPT}", timeout=10)
    logs = service.engine.log + service.gateway.log
    assert len(logs.splitlines()) > 30
    assert [canary for canary in (*CANARIES, IMAGE) if canary in logs] == []
    assert all(isinstance(json.loads(line), dict) for line in logs.splitlines())

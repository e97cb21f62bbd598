"""An engine that is frozen keeps its connections and says nothing: its callers are told all the same."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests

from tests import upstream as up
from tests.end_to_end.conftest import body

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service


def test_callers_of_a_frozen_engine_are_told_within_twenty_seconds(service: Service) -> None:
    service.upstream.default(up.stream_headers(), up.chunk("Hi"), up.silence())
    with ThreadPoolExecutor(1) as pool:
        fallback = pool.submit(requests.post, f"{service.url}/api/ai/chat-image", json=body(), timeout=40)
        service.upstream.block_request()
        with requests.post(service.stream_url, json=body(), stream=True, timeout=40) as reply:
            events = (json.loads(line[6:]) for line in reply.iter_lines(chunk_size=1) if line.startswith(b"data: "))
            assert [next(events)["type"], next(events)["type"]] == ["start", "content"]
            since = time.monotonic()
            os.kill(service.engine.pid, signal.SIGSTOP)
            try:
                (told,) = events
                refused = fallback.result()
                took = time.monotonic() - since
            finally:
                os.kill(service.engine.pid, signal.SIGCONT)
    assert (told["type"], told["code"], told["partial"]) == ("error", "ENGINE_UNAVAILABLE", True)
    assert (refused.status_code, refused.json()["code"]) == (503, "ENGINE_UNAVAILABLE")
    assert took < 20

"""What an answer looks like in Redis: a stream of JSON entries, whose ids are the answer's own sequence numbers.

An entry holds the deltas as a list, because their boundaries are the sequence numbers that clients resume by. The
first entry holds the start, the last one the ending. An entry's id is `<number of its last event>-1`, so that the
stream itself refuses to be written twice, or out of order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine_grpc.answers import Finished, Started
from engine_grpc.errors import EngineError, Reason
from engine_grpc.model import FinishReason, Usage

if TYPE_CHECKING:
    from engine_grpc.answers import Answer, Ending

FIELD = b"e"
"""The one field of an entry."""
START_ID = "0-1"
NOTHING = ""
"""In place of an id: the stream does not exist."""


@dataclass(frozen=True, slots=True)
class Head:
    """An entry's start of an answer, and what other engines must know to follow it."""

    started: Started
    engine_id: str
    """The engine that writes it."""
    claim: str
    """The Redis key that its idempotency key became; empty without one."""


def encode_start(head: Head) -> str:
    """Returns the entry of an answer that has only begun."""
    return json.dumps({"after": 0, "start": _start(head)})


def encode(answer: Answer, head: Head, last_id: str) -> tuple[str, str]:
    """Returns an entry with everything that is not in the stream yet, and its id.

    Args:
        answer: What to write of.
        head: Written where the stream does not exist.
        last_id: The id of the stream's last entry.
    """
    after = int(last_id.partition("-")[0]) if last_id else 0
    entry: dict[str, Any] = {"after": after}
    if not last_id:
        entry["start"] = _start(head)
    if not after and answer.started.settled and not head.started.settled:
        # Known only since the head was written.
        entry["model"] = answer.started.model
    if len(answer.deltas) > after:
        entry["deltas"] = answer.deltas.after(after)
    if answer.ending:
        entry["end"] = _ending(answer.ending)
    return json.dumps(entry), f"{len(answer.deltas) + (answer.ending is not None)}-1"


def decode_head(entry: bytes) -> Head | None:
    """Returns the start that an entry holds, if it does."""
    start = json.loads(entry).get("start")
    if start is None:
        return None
    started = Started(
        answer_id=start["answer"],
        student_id=start["student"],
        session_id=start["session"],
        model=start["model"],
        settled=start.get("settled", True),
        question=start["question"],
        time=datetime.fromisoformat(start["time"]),
    )
    return Head(started, start["engine"], start["claim"])


def apply(entry: bytes, answer: Answer) -> None:
    """Adds to a copy of an answer what an entry has more than the copy.

    Raises:
        ValueError: There are deltas missing between the two.
    """
    decoded = json.loads(entry)
    known = len(answer.deltas) - decoded["after"]
    if known < 0:
        raise ValueError("a gap")
    if model := decoded.get("model"):
        answer.settle(model)
    for delta in decoded.get("deltas", ())[known:]:
        answer.append(delta)
    if end := decoded.get("end"):
        answer.end(_decode_ending(end))


def _start(head: Head) -> dict[str, str | bool]:
    started = head.started
    return {
        "answer": started.answer_id,
        "student": started.student_id,
        "session": started.session_id,
        "model": started.model,
        "settled": started.settled,
        "question": started.question,
        "time": started.time.isoformat(),
        "engine": head.engine_id,
        "claim": head.claim,
    }


def _ending(ending: Ending) -> dict[str, Any]:
    if isinstance(ending, EngineError):
        return {"error": ending.reason, "message": ending.message, "retry_after": ending.retry_after}
    used = ending.usage
    return {
        "finish_reason": ending.finish_reason.value,
        "usage": [used.prompt_tokens, used.completion_tokens, used.total_tokens, used.estimated],
        "elapsed": ending.elapsed,
    }


def _decode_ending(end: dict[str, Any]) -> Ending:
    if "error" in end:
        return EngineError(Reason(end["error"]), end["message"], retry_after=end["retry_after"])
    return Finished(FinishReason(end["finish_reason"]), Usage(*end["usage"]), end["elapsed"])

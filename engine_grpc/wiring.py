"""From the settings to what each part is told: the parts themselves know no settings."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from engine_grpc.openai_model import OpenAIOptions
from engine_grpc.redis_state import redis_state
from engine_grpc.registry import Keeping
from engine_grpc.retired_models import retirement_warning
from engine_grpc.sessions import MemorySessions
from engine_grpc.shared import Unshared
from engine_grpc.tutor import Deadlines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine_grpc.sessions import Sessions
    from engine_grpc.settings import EngineSettings
    from engine_grpc.shared import SharedAnswers

log = structlog.get_logger(__name__)


def deadlines(settings: EngineSettings) -> Deadlines:
    """Returns the model's deadlines."""
    return Deadlines(
        first_token=settings.first_token_timeout_seconds,
        stall=settings.stall_timeout_seconds,
        answer=settings.answer_timeout_seconds,
    )


@dataclass(frozen=True, slots=True)
class State:
    """What is kept, and with whom it is shared."""

    sessions: Sessions
    shared: SharedAnswers


@asynccontextmanager
async def state(settings: EngineSettings) -> AsyncIterator[State]:
    """Opens what STATE_URL names, for as long as the engine runs. A Redis that is not there yet is only a warning."""
    url = settings.state_url.get_secret_value()
    if url == "memory://":
        yield State(MemorySessions(settings.session_ttl_seconds), Unshared())
        return
    longest = settings.answer_timeout_seconds
    async with redis_state(url, settings.answer_ttl_seconds, longest, settings.session_ttl_seconds) as opened:
        yield State(*opened)


def keeping(settings: EngineSettings) -> Keeping:
    """Returns how long answers are kept."""
    return Keeping(
        resume_window=settings.resume_window_seconds,
        answer_ttl=settings.answer_ttl_seconds,
        max_live=settings.max_concurrent_answers,
    )


def model_options(settings: EngineSettings, base_url: str | None, name: str) -> OpenAIOptions:
    """Returns how to ask the model `name` at `base_url` (None: OpenAI), with a warning where it is at its end."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    own = base_url is None or urlsplit(base_url).hostname == "api.openai.com"
    if own and (warning := retirement_warning(name, datetime.now(UTC).date())):
        log.warning(warning)
    return OpenAIOptions(
        model=name,
        # The SDK wants one; servers without keys ignore it. The local model is not told a real one.
        api_key=key if key and not settings.local_model else "none",
        base_url=base_url,
        max_completion_tokens=settings.openai_max_completion_tokens,
        reasoning_effort=settings.openai_reasoning_effort,
        image_detail=settings.openai_image_detail,
        safety_identifier_key=_identifier_key(settings, key) if own else None,
        usage_grace=min(2, settings.stall_timeout_seconds / 2),
    )


def _identifier_key(settings: EngineSettings, api_key: str) -> bytes:
    given = settings.safety_identifier_key
    material = given.get_secret_value() if given else api_key
    return hashlib.sha256(b"studyai safety identifier\0" + material.encode()).digest()

"""From the settings to what each part is told: the parts themselves know no settings."""

from __future__ import annotations

import functools
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from engine_grpc.model_servers import is_openai, server
from engine_grpc.openai_upstream import OpenAIOptions
from engine_grpc.outcome import log_end
from engine_grpc.redis_state import redis_state
from engine_grpc.registry import Keeping
from engine_grpc.retired_models import retirement_warning
from engine_grpc.sessions import MemorySessions
from engine_grpc.shared import Unshared
from engine_grpc.tls import ServerTls
from engine_grpc.writer import Deadlines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import grpc
    from pydantic import SecretStr

    from engine_grpc.answers import Answer
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


def end_log(settings: EngineSettings) -> Callable[[Answer], None]:
    """Returns what logs how an answer ended, with a warning where LOG_PROMPTS=true has it log the words as well."""
    if settings.log_prompts:
        log.warning("LOG_PROMPTS=true: what students ask and are answered is written to this log; for development only")
    return functools.partial(log_end, words=settings.log_prompts)


def listening_credentials(settings: EngineSettings) -> Callable[[], grpc.ServerCredentials] | None:
    """Returns what makes a server's credentials (None: no TLS), with a warning where INSECURE leaves something out."""
    if settings.unprotected:
        log.warning("other machines can reach this engine as INSECURE=true allows it", missing=settings.unprotected)
    return ServerTls(settings.tls_files).credentials if settings.tls_files else None


def model_options(settings: EngineSettings, base_url: str | None, name: str) -> OpenAIOptions:
    """Returns how to ask the model `name` at `base_url` (None: OpenAI), with a warning where it is at its end."""
    # The local model is not told a real key.
    return _options(settings, base_url, name, "" if settings.local_model else _value(settings.openai_api_key))


def fallback_options(settings: EngineSettings) -> OpenAIOptions | None:
    """Returns how to ask the fallback, if there is one; the local model has none."""
    if settings.local_model or not settings.has_fallback:
        return None
    base_url = settings.openai_fallback_base_url or settings.openai_base_url
    key = _value(settings.openai_fallback_api_key)
    # A key is for the server that it was given for.
    if not key and server(base_url) == server(settings.openai_base_url):
        key = _value(settings.openai_api_key)
    return _options(settings, base_url, settings.openai_fallback_model or settings.openai_model, key)


def _options(settings: EngineSettings, base_url: str | None, name: str, api_key: str) -> OpenAIOptions:
    own = is_openai(base_url)
    if own and (warning := retirement_warning(name, datetime.now(UTC).date())):
        log.warning(warning)
    return OpenAIOptions(
        model=name,
        # The SDK wants one; servers without keys ignore it.
        api_key=api_key or "none",
        base_url=base_url,
        max_completion_tokens=settings.openai_max_completion_tokens,
        reasoning_effort=settings.openai_reasoning_effort,
        image_detail=settings.openai_image_detail,
        safety_identifier_key=_identifier_key(settings) if own else None,
        usage_grace=min(2, settings.stall_timeout_seconds / 2),
        max_connections=settings.max_concurrent_answers,
        direct=settings.local_model,
    )


def _identifier_key(settings: EngineSettings) -> bytes | None:
    """One for both models: OpenAI is to recognise a student whichever answers."""
    given = settings.safety_identifier_key or settings.openai_api_key or settings.openai_fallback_api_key
    return hashlib.sha256(b"studyai safety identifier\0" + _value(given).encode()).digest() if given else None


def _value(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""

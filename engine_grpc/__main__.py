"""The engine's composition root: settings, logging, wiring, run."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError

from engine_grpc.answers import Answers
from engine_grpc.embedded import MODEL_NAME, LocalModelError, local_model
from engine_grpc.log import configure_logging
from engine_grpc.openai_model import OpenAIModel, OpenAIOptions
from engine_grpc.retired_models import retirement_warning
from engine_grpc.server import run_until_signal, start_engine
from engine_grpc.settings import EngineSettings, faults
from engine_grpc.tutor import Deadlines, Tutor

log = structlog.get_logger("engine_grpc")


def main() -> None:
    """Runs the engine until it is told to stop. Exits with 2 where a setting is wrong, with 1 where it cannot start."""
    try:
        settings = EngineSettings()
    except ValidationError as error:
        sys.exit(_wrong_settings(error))
    configure_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings))
    except (LocalModelError, OSError, RuntimeError) as error:
        log.error("cannot start", why=str(error))  # noqa: TRY400 - says what is wrong; a traceback would bury it
        sys.exit(1)


def _wrong_settings(error: ValidationError) -> int:
    sys.stderr.writelines(f"engine-grpc: {fault}\n" for fault in faults(error))
    return 2


async def run(settings: EngineSettings) -> None:
    """Serves with these settings until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        base_url, name = settings.openai_base_url, settings.openai_model
        if settings.local_model:
            base_url, name = await stack.enter_async_context(local_model()), MODEL_NAME
        options = model_options(settings, base_url, name)
        model = await stack.enter_async_context(aclosing(OpenAIModel(options)))
        answers = Answers(settings.max_concurrent_answers)
        engine = await start_engine(
            Tutor(model, answers, deadlines(settings)), answers, settings.engine_host, settings.engine_port
        )
        log.info("engine listens", host=settings.engine_host, port=engine.port, model=name)
        await run_until_signal(engine, settings.drain_seconds)
        log.info("engine stopped")


def deadlines(settings: EngineSettings) -> Deadlines:
    """Returns the model's deadlines."""
    return Deadlines(
        first_token=settings.first_token_timeout_seconds,
        stall=settings.stall_timeout_seconds,
        answer=settings.answer_timeout_seconds,
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


if __name__ == "__main__":
    main()

"""The engine's composition root: settings, logging, wiring, run."""

from __future__ import annotations

import os

# gRPC's core writes to standard error in a format of its own, and what matters of it is told by exceptions too. It
# reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# A call wakes one thread of gRPC's server and not four: it reads where it is waited for, as the gateway's client does.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

import asyncio
import gc
import sys
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING

import structlog
import uvloop
from pydantic import ValidationError

from engine_grpc import metrics
from engine_grpc.embedded import MODEL_NAME, LocalModelError, local_model
from engine_grpc.log import configure_logging
from engine_grpc.openai_model import OpenAIModel
from engine_grpc.registry import Answers
from engine_grpc.server import serve_until, start_engine, take_signals
from engine_grpc.settings import EngineSettings, faults
from engine_grpc.tracing import configure_tracing
from engine_grpc.tutor import Tutor
from engine_grpc.wiring import (
    deadlines,
    end_log,
    fallback_options,
    keeping,
    listening_credentials,
    model_options,
    state,
)

if TYPE_CHECKING:
    from engine_grpc.server import Engine

log = structlog.get_logger("engine_grpc")


def main() -> None:
    """Runs the engine until it is told to stop.

    Exits with 2 where a setting is wrong, and with 1 where it cannot start or the local model has ended under it.
    """
    try:
        settings = EngineSettings()
    except (ValidationError, UnicodeDecodeError) as error:
        sys.exit(_wrong_settings(error))
    configure_logging(settings.log_level, settings.log_format)
    send_last_spans = configure_tracing(settings.otel_exporter_otlp_endpoint)
    try:
        sys.exit(uvloop.run(run(settings)))
    except (LocalModelError, OSError) as error:
        sys.exit(_cannot_start(error))
    except KeyboardInterrupt:  # Ctrl-C before it listens; after that the signal is the server's
        sys.exit(130)
    finally:
        send_last_spans()


def _wrong_settings(error: ValidationError | UnicodeDecodeError) -> int:
    sys.stderr.writelines(f"engine-grpc: {fault}\n" for fault in faults(error))
    return 2


def _cannot_start(error: Exception) -> int:
    # Without its traceback, which would bury what is wrong.
    log.error("cannot start", why=str(error))
    return 1


async def run(settings: EngineSettings) -> int:
    """Serves with these settings until SIGTERM or SIGINT, or the end of the local model. Returns the exit status."""
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(local_model()) if settings.local_model else None
        base_url, name = settings.openai_base_url, settings.openai_model
        if local:
            base_url, name = local.base_url, MODEL_NAME
        model = OpenAIModel(model_options(settings, base_url, name), fallback_options(settings))
        await stack.enter_async_context(aclosing(model))
        answers = Answers(keeping(settings), end_log(settings))
        kept = await stack.enter_async_context(state(settings))
        tutor = Tutor(model, answers, kept.sessions, deadlines(settings), kept.shared)
        await stack.enter_async_context(aclosing(tutor))
        host, credentials = settings.engine_host, listening_credentials(settings)
        engine = await start_engine(
            tutor, answers, host, settings.engine_port, credentials=credentials, tokens=settings.service_tokens
        )
        _measure(stack, settings, engine)
        _tune_garbage_collection()
        asked = take_signals(engine)  # Before anybody is told that it listens, and may want it to stop.
        log.info("engine listens", host=host, port=engine.port, tls=bool(credentials), model=name)
        lost = await local.lost_before(asked) if local else False
        if lost:
            asked.set()
        await serve_until(asked, engine, settings.drain_seconds)
        log.info("engine stopped")
        return 1 if lost else 0


def _measure(stack: AsyncExitStack, settings: EngineSettings, engine: Engine) -> None:
    stack.enter_context(metrics.served(settings.engine_host, settings.engine_metrics_port))
    metrics.ROOM.set(settings.max_concurrent_answers)
    metrics.LIVE_ANSWERS.set_function(lambda: engine.answers.live)
    metrics.LIVE_CALLS.set_function(lambda: engine.calls.live)
    lag = asyncio.create_task(metrics.measure_lag())
    stack.callback(lag.cancel)


def _tune_garbage_collection() -> None:
    # What is there now stays to the end. Every full collection looked through it for 40 ms; all streams waited.
    gc.collect()
    gc.freeze()
    # Nor is there much for a full collection to find: cycles are young when they die.
    gc.set_threshold(700, 10, 100)


if __name__ == "__main__":
    main()

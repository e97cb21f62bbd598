"""Starts the embedded local model, a process of its own, and says where it listens.

To the engine it is an OpenAI-compatible server like any other: a base URL. Its life hangs on a pipe, so that it ends
with the engine however the engine ends. When it ends by itself, the engine is to end as well: what starts the engine
again starts both.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger(__name__)

MODEL_NAME = "studyai-local"
_START_SECONDS = 60
_STOP_SECONDS = 5


class LocalModelError(RuntimeError):
    """The local model did not start; its own words are on standard error."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """The running local model."""

    base_url: str
    process: asyncio.subprocess.Process

    async def lost_before(self, asked: asyncio.Event) -> bool:
        """Waits until `asked` is set or the model has ended by itself; returns whether it was that, and logs it."""
        waiting = [asyncio.ensure_future(asked.wait()), asyncio.ensure_future(self.process.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        if not asked.is_set():
            log.error("the local model has ended, and so does the engine", status=self.process.returncode)
        return not asked.is_set()


@asynccontextmanager
async def local_model() -> AsyncIterator[LocalModel]:
    """Runs the local model.

    Raises:
        LocalModelError: It did not start.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local_model", "--port", "0", "--exit-with-parent"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # The terminal's Ctrl-C goes to the engine alone, which ends the model after its last answer.
        start_new_session=True,
    )
    try:
        yield LocalModel(await _base_url(process), process)
    finally:
        await _stop(process)


async def _base_url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        raise LocalModelError(f"The local model said nothing for {_START_SECONDS} s.") from None
    if not line.startswith("http://"):
        raise LocalModelError("The local model did not start.")
    return line


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Closes the pipe, which asks the model to end; kills it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()

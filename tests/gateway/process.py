"""The gateway as the process that it is in production."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator
    from pathlib import Path


class GatewayProcess:
    """A running `python -m sse_gateway`, and what it has logged so far."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = 0

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def records(self) -> list[Any]:
        """The log's records: each line is one."""
        return [json.loads(line) for line in self.output.splitlines()]

    async def until(self, pattern: str) -> re.Match[str]:
        """Waits until the log says this."""
        await until(lambda: self._process.returncode is not None or re.search(pattern, self.output), 10)
        match = re.search(pattern, self.output)
        assert match, self.output
        return match

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self) -> int:
        """Waits for the end; returns the exit code."""
        async with asyncio.timeout(10):
            return await self._process.wait()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


async def _spawn(folder: Path, settings: dict[str, str]) -> GatewayProcess:
    log = folder / "gateway.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sse_gateway"),
            cwd=folder,
            env={**os.environ, "PORT": "0", **settings},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    return GatewayProcess(process, log)


async def run_to_end(folder: Path, **settings: str) -> tuple[int, str]:
    """Runs a gateway that cannot start; returns its exit code and what it said."""
    process = await _spawn(folder, settings)
    return await process.end(), process.output


@asynccontextmanager
async def gateway_process(folder: Path, **settings: str) -> AsyncIterator[GatewayProcess]:
    """Starts a gateway on a free port; ends it if the test does not."""
    process = await _spawn(folder, settings)
    try:
        process.port = int((await process.until(r"running on http://127\.0\.0\.1:(\d+)"))[1])
        yield process
    finally:
        process.kill()
        await process.end()

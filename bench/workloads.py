"""What is measured: each workload runs its subjects in turn, several rounds, and notes figures by subject and name."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from bench.load import Load, run
from bench.subjects import Ours

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.load import Asking, Stream
    from bench.subjects import Bench, Running

Figures = dict[str, dict[str, list[float]]]
"""By subject and name, a value for each round."""

_WARM_UP_STREAMS = 16
_PAUSE_SECONDS = 0.3
_GOLDEN = 0.618


def jpeg(size: int) -> bytes:
    """Returns a picture of noise of about so many bytes: nothing in it can be compressed."""
    side = int((size / 1.3) ** 0.5)
    picture = Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3))
    with BytesIO() as file:
        picture.save(file, "JPEG", quality=90)
        return file.getvalue()


SMALL, LARGE, TINY = jpeg(16_000), jpeg(2_000_000), jpeg(500)


@dataclass(slots=True)
class Workloads:
    """Runs workloads.

    Args:
        bench: Starts the subjects.
        say: Is told how it goes.
        peers: Which of nginx, bare, two-hop and litellm to run beside this service.
    """

    bench: Bench
    say: Callable[[str], None]
    peers: tuple[str, ...]
    figures: dict[str, Figures] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    async def tokens(self, name: str, streams: int, tokens: int, rate: float, rounds: int, peers: set[str]) -> None:
        """W1, W1b, W2: CPU per token of streams that run at the same time."""
        with ExitStack() as stack:
            subjects = [stack.enter_context(start()) for start in self._starts(peers)]
            for subject in subjects:
                await self._warm_up(subject)
            for number in range(1, rounds + 1):
                for subject in subjects:
                    await self._round(name, f"{number}/{rounds}", subject, subject.asking(tokens, rate, SMALL), streams)

    async def variants(self, rounds: int) -> None:
        """W1 in the ways in which this service can be run and asked."""
        with ExitStack() as stack:
            default, redis, two = (
                stack.enter_context(self.bench.ours(how)) for how in (Ours(), Ours(redis=True), Ours(workers=2))
            )
            for subject in (default, redis, two):
                await self._warm_up(subject)
            asked = [
                ("default", default, default.asking(200, 50, SMALL)),
                ("accumulate: false", default, default.asking(200, 50, SMALL, fields={"accumulate": False})),
                *((coding, default, _encoded(default, 200, 50, coding)) for coding in ("zstd", "br", "gzip")),
                ("key", default, default.asking(200, 50, SMALL, keyed=True)),
                ("key, Redis", redis, redis.asking(200, 50, SMALL, keyed=True)),
                ("2 engines, 2 gateways", two, two.asking(200, 50, SMALL)),
            ]
            for number in range(1, rounds + 1):
                for label, subject, asking in asked:
                    await self._round("variants", f"{number}/{rounds}", subject, asking, 16, label)

    async def open_streams(self, streams: int, peers: set[str], opened_per_second: float = 100) -> None:
        """W3: memory of streams that are open and say little."""
        for start in self._starts(peers):
            with start() as subject:
                await self._warm_up(subject)
                await asyncio.sleep(1)
                idle = subject.memory_kib()
                seconds = streams / opened_per_second
                asking = subject.asking(round(seconds / 2) + 6, 0.5, TINY)
                load = Load(asking, streams, seconds, deadline=seconds + 60)
                await load.open()
                await asyncio.sleep(2)
                grown = (subject.memory_kib() - idle) / streams
                done = await load.finish()
                first = sorted(stream.first_token * 1000 for stream in done)
                failed = self._failed(f"W3 {streams}", subject.name, done)
                self._note(
                    f"W3 {streams}",
                    subject.name,
                    kib_per_stream=grown,
                    failed=failed,
                    first_token_p50_ms=first[len(first) // 2],
                    first_token_p99_ms=first[int(len(first) * 0.99)],
                )
                self.say(f"W3 {streams} {subject.name}: {grown:.1f} KiB a stream, {failed} failed")

    async def one_at_a_time(self, rounds: int, peers: set[str], requests: int = 20) -> None:
        """W4: what a subject adds to the time until the first token and the last, on an idle machine."""
        with ExitStack() as stack:
            starts = [self.bench.direct, *self._starts(peers)]
            subjects = [stack.enter_context(start()) for start in starts]
            for subject in subjects:
                await self._warm_up(subject)
            for number in range(1, rounds + 1):
                for subject in subjects:
                    done = [(await run(subject.asking(5, 50, SMALL), 1))[0] for _ in range(requests)]
                    self._failed("W4", subject.name, done)
                    first = statistics.median(stream.first_token * 1000 for stream in done)
                    total = statistics.median(stream.total * 1000 for stream in done)
                    self._note("W4", subject.name, first_token_ms=first, total_ms=total)
                    self.say(f"W4 {number}/{rounds} {subject.name}: first token after {first:.2f} ms")

    async def large_picture(self, rounds: int, peers: set[str], requests: int = 10) -> None:
        """W5: CPU and time of a request with a picture of 2 MB."""
        with ExitStack() as stack:
            subjects = [stack.enter_context(start()) for start in self._starts(peers)]
            for subject in subjects:
                await self._warm_up(subject)
            for number in range(1, rounds + 1):
                for subject in subjects:
                    before = subject.cpu_seconds()
                    done = [(await run(subject.asking(20, 0, LARGE), 1))[0] for _ in range(requests)]
                    cpu = (subject.cpu_seconds() - before) / requests * 1000
                    self._failed("W5", subject.name, done)
                    total = statistics.median(stream.total * 1000 for stream in done)
                    self._note("W5", subject.name, cpu_ms_per_request=cpu, total_ms=total)
                    self.say(f"W5 {number}/{rounds} {subject.name}: {cpu:.1f} ms of CPU a request")

    async def sizes(self) -> None:
        """W6: bytes on the wire for each token, the response's body with its chunks' framing."""
        with self.bench.ours() as ours:
            await self._warm_up(ours)
            for tokens in (100, 500, 2000):
                askings = {
                    "plain": ours.asking(tokens, 200, SMALL),
                    "accumulate: false": ours.asking(tokens, 200, SMALL, fields={"accumulate": False}),
                    **{coding: _encoded(ours, tokens, 200, coding) for coding in ("gzip", "br", "zstd")},
                }
                self.say(f"W6: answers of {tokens} tokens …")
                for label, done in zip(
                    askings, await asyncio.gather(*(run(a, 1) for a in askings.values())), strict=True
                ):
                    self._failed(f"W6 {tokens}", label, done)
                    self._note(f"W6 {tokens}", label, bytes_per_token=done[0].body_bytes / tokens)

    def _starts(self, peers: set[str]) -> list[Callable[[], AbstractContextManager[Running]]]:
        bench = self.bench
        known = {"nginx": bench.nginx, "bare": bench.bare, "two-hop": bench.two_hop, "litellm": bench.litellm}
        return [*(known[peer] for peer in self.peers if peer in peers), self.bench.ours]

    async def _warm_up(self, subject: Running) -> None:
        await run(subject.asking(20, 0, SMALL), _WARM_UP_STREAMS)

    async def _round(
        self, name: str, number: str, subject: Running, asking: Asking, streams: int, label: str = ""
    ) -> None:
        await asyncio.sleep(_PAUSE_SECONDS)
        before = subject.cpu_seconds()
        # By the golden ratio: at regular distances the streams' tokens would come together, and cost less.
        spread = streams * _GOLDEN / asking.rate if asking.rate else 0
        done = await run(asking, streams, spread)
        tokens = streams * asking.tokens
        cpu = (subject.cpu_seconds() - before) / tokens * 1e6
        label = label or subject.name
        failed = self._failed(name, label, done)
        own = sum(stream.events for stream in done) / tokens * 100
        self._note(name, label, cpu_us_per_token=cpu, own_events_percent=own, failed=failed)
        self.say(f"{name} {number} {label}: {cpu:.1f} µs of CPU a token")

    def _failed(self, name: str, label: str, done: list[Stream]) -> int:
        faults = [stream.fault for stream in done if stream.fault]
        self.faults += [f"{name} {label}: {fault}" for fault in faults[:3]]
        return len(faults)

    def _note(self, name: str, label: str, **figures: float) -> None:
        subject = self.figures.setdefault(name, {}).setdefault(label, defaultdict(list))
        for figure, value in figures.items():
            subject[figure].append(value)


def _encoded(subject: Running, tokens: int, rate: float, coding: str) -> Asking:
    return subject.asking(tokens, rate, SMALL, headers={"Accept-Encoding": coding})

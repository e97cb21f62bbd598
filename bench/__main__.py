"""The command: `python -m bench`, and `make bench` with everything that it needs."""

from __future__ import annotations

import argparse
import resource
import sys
import time

import uvloop

from bench import plots, report
from bench.subjects import Bench
from bench.workloads import Workloads

_ALL = ("W1", "W1b", "W2", "W3", "W4", "W5", "W6", "variants")
_PEERS = ("nginx", "bare", "two-hop", "litellm")
_FILES = 20_000


def main() -> None:
    """Runs what was asked for, prints the tables and, with --write, puts them into docs/."""
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most), most))
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    with Bench() as bench:
        workloads = Workloads(bench, say, tuple(options.peers))
        try:
            uvloop.run(_run(workloads, options.workloads, options.rounds))
        except KeyboardInterrupt:
            sys.exit(130)
    print(report.tables(workloads.figures))
    print(*workloads.faults, sep="\n", file=sys.stderr)
    if options.write:
        report.write(workloads.figures, workloads.faults)
        plots.write(workloads.figures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a token, a request and a stream cost.")
    parser.add_argument("--workloads", nargs="+", choices=_ALL, default=_ALL, metavar="W")
    parser.add_argument("--peers", nargs="*", choices=_PEERS, default=_PEERS, metavar="PEER", help=", ".join(_PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write docs/performance.*")
    return parser.parse_args()


async def _run(workloads: Workloads, chosen: list[str], rounds: int) -> None:
    everyone = set(_PEERS)
    if "W1" in chosen:
        await workloads.tokens("W1", 16, 200, 50, rounds, everyone)
    if "W1b" in chosen:
        # The two others fall behind: 10,000 tokens a second are more than two cores can give them.
        await workloads.tokens("W1b", 200, 200, 50, rounds, {"nginx", "bare"})
    if "W2" in chosen:
        await workloads.tokens("W2", 32, 500, 0, rounds, everyone)
    if "W3" in chosen:
        await workloads.open_streams(1000, everyone)
        await workloads.open_streams(5000, {"nginx"})
    if "W4" in chosen:
        await workloads.one_at_a_time(rounds, everyone)
    if "W5" in chosen:
        await workloads.large_picture(rounds, everyone)
    if "W6" in chosen:
        await workloads.sizes()
    if "variants" in chosen:
        await workloads.variants(rounds)


if __name__ == "__main__":
    main()

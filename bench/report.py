"""From the figures to tables: medians and spread, ratios of one run, and the targets beside them."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.workloads import Figures

_DOCS = Path(__file__).parent.parent / "docs"
_PACKAGES = ("aiohttp", "fastapi", "grpcio", "msgspec", "openai", "protobuf", "uvicorn", "uvloop")
_TOKENS = {"cpu_us_per_token": "CPU, µs a token", "own_events_percent": "events for 100 tokens", "failed": "failed"}
_STREAMS = {
    "kib_per_stream": "KiB a stream",
    "first_token_p50_ms": "first token, median, ms",
    "first_token_p99_ms": "99th percentile, ms",
    "failed": "failed",
}
_TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "W1": ("16 streams of 200 tokens, 50 a second each", _TOKENS),
    "W1b": ("200 streams of 200 tokens, 50 a second each", _TOKENS),
    "W2": ("32 streams of 500 tokens, as fast as they come", _TOKENS),
    "W3 1000": ("1,000 open streams, a token every 2 s", _STREAMS),
    "W3 5000": ("5,000 open streams, a token every 2 s", _STREAMS),
    "W4": (
        "One stream at a time, on an idle machine",
        {"first_added_ms": "added to the first token, ms", "total_added_ms": "added in all, ms"},
    ),
    "W5": ("A picture of 2 MB", {"cpu_ms_per_request": "CPU, ms a request", "total_ms": "time, ms"}),
    "W6": ("Bytes a token", {str(n): f"answers of {n:,} tokens" for n in (100, 500, 2000)}),
    "variants": ("W1 in other ways", {"cpu_us_per_token": "CPU, µs a token", "failed": "failed"}),
}
_ORDER = ("nginx", "bare", "ours", "two-hop", "litellm")


def of(figures: Figures, subject: str, name: str) -> float:
    """Returns the median of a subject's figure; NaN where there is none."""
    values = figures.get(subject, {}).get(name)
    return median(values) if values else float("nan")


def targets(figures: dict[str, Figures]) -> list[tuple[str, float, float]]:
    """Returns what was to be reached: its name, the bound, and what this run reached. Lower is better."""
    rows: list[tuple[str, float, float]] = []

    def cpu(workload: str, peer: str, bound: float, text: str) -> None:
        one = figures.get(workload, {})
        reached = of(one, "ours", "cpu_us_per_token") / of(one, peer, "cpu_us_per_token")
        rows.append((f"{workload} CPU per token, of {text}", bound, reached))

    cpu("W1", "litellm", 1 / 3.5, "LiteLLM's")
    cpu("W1", "two-hop", 1 / 2.2, "two-hop's")
    cpu("W1b", "nginx", 9, "nginx's")
    cpu("W2", "litellm", 1 / 60, "LiteLLM's")
    cpu("W2", "two-hop", 1 / 25, "two-hop's")
    cpu("W2", "nginx", 3.2, "nginx's")
    w1b, w3, w3_5000 = (figures.get(name, {}) for name in ("W1b", "W3 1000", "W3 5000"))
    rows.append(("W1b streams that failed", 0, of(w1b, "ours", "failed")))
    rows.append(("W3 KiB for each of 1,000 open streams", 75, of(w3, "ours", "kib_per_stream")))
    rows.append(("W3 KiB for each of 5,000 open streams", 75, of(w3_5000, "ours", "kib_per_stream")))
    rows.append(("W3 failed of 5,000 streams", 0, of(w3_5000, "ours", "failed")))
    rows.append(("W3 99th percentile of the first token at 1,000, ms", 50, of(w3, "ours", "first_token_p99_ms")))
    w4 = _added_to(figures["W4"]) if "W4" in figures else {}
    w5 = figures.get("W5", {})
    added = of(w4, "ours", "first_added_ms") / of(w4, "litellm", "first_added_ms")
    rows.append(("W4 added time to first token, of LiteLLM's", 1 / 5, added))
    picture = of(w5, "ours", "cpu_ms_per_request") / of(w5, "litellm", "cpu_ms_per_request")
    rows.append(("W5 CPU per request, of LiteLLM's", 0.6, picture))
    for tokens, bound in ((100, 8), (500, 25), (2000, 60)):
        sizes = figures.get(f"W6 {tokens}", {})
        reached = of(sizes, "zstd", "bytes_per_token") / of(sizes, "plain", "bytes_per_token")
        rows.append((f"W6 zstd's bytes, of plain, {tokens:,} tokens", 1 / bound, reached))
    alone = 100 - of(figures.get("W1", {}), "ours", "own_events_percent")
    rows.append(("W1 tokens that were no event of their own, %", 5, alone))
    return [row for row in rows if row[2] == row[2]]  # NaN: not measured


def tables(figures: dict[str, Figures]) -> str:
    """Returns the figures as Markdown."""
    shown = figures | {"W6": _sizes(figures)} | ({"W4": _added_to(figures["W4"])} if "W4" in figures else {})
    parts = [
        _table(f"{name}: {title}", shown[name], columns)
        for name, (title, columns) in _TABLES.items()
        if shown.get(name)
    ]
    return "\n\n".join([_target_table(figures), *parts])


def write(figures: dict[str, Figures], faults: list[str]) -> None:
    """Writes docs/performance.json, and the tables into docs/performance.md between their marks.

    A workload that was not run keeps its figures: all of what is compared is of one run still.
    """
    data = _DOCS / "performance.json"
    known: dict[str, Figures] = json.loads(data.read_text())["figures"] if data.exists() else {}
    figures = known | figures
    data.write_text(json.dumps({"machine": _machine(), "faults": faults, "figures": figures}, indent=1) + "\n")
    page = _DOCS / "performance.md"
    marks = re.compile(r"(<!-- figures -->\n).*(<!-- end of figures -->)", re.DOTALL)
    written = f"{_described()}\n\n{tables(figures)}\n"
    page.write_text(marks.sub(lambda found: f"{found[1]}{written}{found[2]}", page.read_text()))


def _sizes(figures: dict[str, Figures]) -> Figures:
    """The three workloads of W6 as one."""
    codings = figures.get("W6 100", {})
    return {c: {str(n): figures[f"W6 {n}"][c]["bytes_per_token"] for n in (100, 500, 2000)} for c in codings}


def _added_to(w4: Figures) -> Figures:
    """What each subject adds to asking directly, round by round."""
    direct = w4["direct"]
    return {
        subject: {
            f"{name}_added_ms": [mine - its for mine, its in zip(values[key], direct[key], strict=True)]
            for name, key in (("first", "first_token_ms"), ("total", "total_ms"))
        }
        for subject, values in w4.items()
        if subject != "direct"
    }


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def _described() -> str:
    machine = _machine()
    packages = ", ".join(f"{name} {machine[name]}" for name in _PACKAGES)
    where = f"{machine['cores']} cores ({machine['cpu']}), Python {machine['python']}, {packages}"
    return f"Measured on {machine['date']}: {where}."


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1].replace("(R)", "").replace("(TM)", "") if found else platform.machine()


def _target_table(figures: dict[str, Figures]) -> str:
    lines = ["| to reach | at most | reached | |", "|---|---:|---:|---|"]
    for name, bound, reached in targets(figures):
        lines.append(f"| {name} | {_short(bound)} | {_short(reached)} | {'✓' if reached <= bound else '✗'} |")
    return "\n".join(lines)


def _table(title: str, figures: Figures, columns: dict[str, str]) -> str:
    ordered = sorted(figures, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    lines = [f"**{title}**", "", f"| | {' | '.join(columns.values())} |", "|---|" + "---:|" * len(columns)]
    for subject in ordered:
        cells = (_cell(figures[subject].get(name, [])) for name in columns)
        lines.append(f"| {subject} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ({_short(min(values))}–{_short(max(values))})" if len(values) > 1 and min(values) != max(values) else ""
    return f"{_short(median(values))}{spread}"


def _short(value: float) -> str:
    if value == int(value) and abs(value) < 10_000:
        return str(int(value))
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""Four plots of the figures, as SVG for docs/: legible on light and on dark paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from bench.report import of

if TYPE_CHECKING:
    from bench.workloads import Figures

_DOCS = Path(__file__).parent.parent / "docs" / "performance"
_GREY, _OURS = "#8a8f98", "#2f81f7"


def write(figures: dict[str, Figures]) -> None:
    """Writes the plots that there are figures for."""
    _DOCS.mkdir(exist_ok=True)
    # Names in the file that do not change from run to run.
    mpl.rcParams.update({"svg.hashsalt": "studyai", "text.color": _GREY, "axes.labelcolor": _GREY, "font.size": 10})
    for workload in ("W1", "W1b", "W2"):
        if one := figures.get(workload):
            _bars(
                f"cpu-{workload.lower()}",
                {s: of(one, s, "cpu_us_per_token") for s in one},
                "µs of CPU a token",
                log=True,
            )
    if w3 := figures.get("W3 1000"):
        _bars("memory", {s: of(w3, s, "kib_per_stream") for s in w3}, "KiB an open stream")
    if w4 := figures.get("W4"):
        direct = of(w4, "direct", "first_token_ms")
        added = {s: of(w4, s, "first_token_ms") - direct for s in w4 if s != "direct"}
        _bars("first-token", added, "ms added to the first token")
    if w6 := figures.get("W6 500"):
        _bars("bytes", {s: of(w6, s, "bytes_per_token") for s in w6}, "bytes a token, answers of 500", log=True)


def _bars(name: str, values: dict[str, float], label: str, *, log: bool = False) -> None:
    ordered = sorted(values, key=values.__getitem__, reverse=True)
    figure, axes = plt.subplots(figsize=(7, 0.45 * len(ordered) + 0.7))
    colours = [_OURS if subject in {"ours", "zstd"} else _GREY for subject in ordered]
    bars = axes.barh(ordered, [values[subject] for subject in ordered], color=colours, height=0.62, log=log)
    axes.bar_label(bars, fmt="{:,.3g}", padding=4, color=_GREY)
    axes.set_xlabel(label)
    axes.tick_params(colors=_GREY, length=0)
    axes.margins(x=0.14)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)
    figure.tight_layout()
    figure.savefig(_DOCS / f"{name}.svg", transparent=True, metadata={"Date": None})
    plt.close(figure)

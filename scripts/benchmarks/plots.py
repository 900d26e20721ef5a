"""Draws docs/plots/*.svg from the JSON files that `scripts/bench ... --json` has written.

python -m scripts.benchmarks.plots FILE...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from scripts.benchmarks.report import Row

matplotlib.use("svg")

from matplotlib import pyplot

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "plots"

# Fixed ids and no date, so that equal figures make equal files.
matplotlib.rcParams["svg.hashsalt"] = "proxy-OAI-compat"


Content = dict[str, Any]


def plot_gateway(content: Content) -> None:
    """Requests a second by connections, the bare framework beside the gateway."""
    rows = content["tables"]["Whole answers"]
    _bars(
        "gateway",
        [f"{row['connections']} connections" for row in rows],
        {
            "bare FastAPI route": [row["bare requests/s"] for row in rows],
            "gateway and worker": [row["gateway requests/s"] for row in rows],
        },
        f"Whole answers a second ({content['machine']})",
    )


def plot_server(content: Content) -> None:
    """Requests a second, one panel for each case; and what a reader of a stream waits for."""
    rows = content["tables"]["Each server"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    panels = [(case, "requests/s", [row for row in rows if row["case"] == case]) for case in cases]
    _panels("server", panels, f"Requests a second, same checkpoint ({_circumstances(content)})")
    streamed = [row for row in rows if row["gap p99 ms"] is not None]
    waits = ("first token p50 ms", "first token p99 ms", "gap p50 ms", "gap p99 ms")
    if streamed:
        title = f"What a stream's reader waits for, ms ({_circumstances(content)})"
        _panels("server-waits", [(wait, wait, streamed) for wait in waits], title)


def plot_system(content: Content) -> None:
    """Tokens a second of the whole system, of its engine alone, and of `BatchGenerator`."""
    (rows,) = content["tables"].values()
    sides = ("BatchGenerator", "engine alone", "whole system")
    _bars(
        "system",
        [f"{row['streams']} streams of\n{row['tokens']} tokens" for row in rows],
        {side: [row[side] for row in rows] for side in sides},
        f"Tokens a second ({_circumstances(content)})",
    )


def plot_blas(content: Content) -> None:
    rows = content["tables"]["The engine in one process"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    variants = dict.fromkeys(row["variant"] for row in rows)
    _bars(
        "blas",
        cases,
        {v: [row["tokens/s"] for row in rows if row["variant"] == v] for v in variants},
        f"Tokens a second of the engine alone ({_circumstances(content)})",
    )


def plot_start(content: Content) -> None:
    """The phases of an engine's start, one after the other."""
    rows = content["tables"]["Where the engine's start goes"]
    figure, axes = pyplot.subplots(figsize=(7.0, 2.2))
    left = 0.0
    for row in rows:
        axes.barh(["CPU seconds"], [row["CPU s"]], left=left, label=row["phase"])
        left += row["CPU s"]
    axes.set_title(f"Start of the engine ({_circumstances(content)})", fontsize=9)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    _save(figure, "start")


PLOTS = {
    "gateway": plot_gateway,
    "server": plot_server,
    "system": plot_system,
    "blas": plot_blas,
    "start": plot_start,
}


def _circumstances(content: Content) -> str:
    load = " to ".join(f"{value:g}" for value in content["load"])
    return f"{content['machine']}, code {content['code']}, load {load}"


def _panels(name: str, panels: Sequence[tuple[str, str, list[Row]]], title: str) -> None:
    """One small diagram for each (title, figure, rows), servers side by side by connections."""
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.2))
    for axes, (label, key, rows) in zip(figure.axes or [all_axes], panels, strict=True):
        servers = list(dict.fromkeys(row["server"] for row in rows))
        connections = list(dict.fromkeys(row["connections"] for row in rows))
        found = {(row["server"], row["connections"]): row[key] or 0.0 for row in rows}
        series = {s: [found.get((s, number), 0.0) for number in connections] for s in servers}
        _group(axes, [str(number) for number in connections], series)
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("connections", fontsize=8)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9)
    _save(figure, name)


def _bars(name: str, labels: Sequence[str], series: dict[str, list[float]], title: str) -> None:
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.2 * len(labels)), 3.6))
    _group(axes, labels, series)
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, name)


def _group(axes: Any, labels: Sequence[str], series: dict[str, list[float]]) -> None:
    width = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        axes.bar([place + shift for place in range(len(values))], values, width, label=label)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def main(paths: Sequence[str]) -> int:
    for path in paths:
        content = json.loads(Path(path).read_text())
        if content["benchmark"] in PLOTS:
            PLOTS[content["benchmark"]](content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

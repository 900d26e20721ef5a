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
import pandas

matplotlib.use("svg")

from matplotlib import pyplot

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "plots"
WAITS = ("first token p50 ms", "first token p99 ms", "gap p50 ms", "gap p99 ms")

# Fixed ids and no date, so that equal figures make equal files.
matplotlib.rcParams["svg.hashsalt"] = "proxy-OAI-compat"
matplotlib.rcParams.update({"font.size": 8, "figure.titlesize": 9, "legend.frameon": False})
matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

Content = dict[str, Any]


def plot_gateway(content: Content) -> None:
    """Requests a second by connections, the bare framework beside the gateway."""
    rows = pandas.DataFrame(content["tables"]["Whole answers"]).set_index("connections")
    bars = rows[["bare requests/s", "gateway requests/s"]]
    _draw("gateway", {"": bars}, f"Whole answers a second ({content['machine']})")


def plot_server(content: Content) -> None:
    """Requests a second, one panel for each case; and what a reader of a stream waits for."""
    rows = pandas.DataFrame(content["tables"]["Each server"])
    by = {"index": "connections", "columns": "server"}
    cases = {
        name: _pivoted(some, values="requests/s", **by)
        for name, some in rows.groupby("case", sort=False)
    }
    _draw("server", cases, f"Requests a second, same checkpoint ({_circumstances(content)})")
    streamed = rows[rows["gap p99 ms"].notna()]
    waits = {wait: _pivoted(streamed, values=wait, **by) for wait in WAITS if len(streamed)}
    if waits:
        title = f"What a stream's reader waits for, ms ({_circumstances(content)})"
        _draw("server-waits", waits, title)


def plot_system(content: Content) -> None:
    """Tokens a second of the whole system, of its engine alone, and of `BatchGenerator`."""
    (rows,) = map(pandas.DataFrame, content["tables"].values())
    rows.index = [f"{row.streams} streams of\n{row.tokens} tokens" for row in rows.itertuples()]
    bars = rows[["BatchGenerator", "engine alone", "whole system"]]
    _draw("system", {"": bars}, f"Tokens a second ({_circumstances(content)})")


def plot_blas(content: Content) -> None:
    rows = pandas.DataFrame(content["tables"]["The engine in one process"])
    bars = _pivoted(rows, index="case", columns="variant", values="tokens/s")
    _draw("blas", {"": bars}, f"Tokens a second of the engine alone ({_circumstances(content)})")


def plot_start(content: Content) -> None:
    """The phases of an engine's start, one after the other."""
    rows = pandas.DataFrame(content["tables"]["Where the engine's start goes"])
    phases = rows.set_index("phase")[["CPU s"]].T
    title = f"Start of the engine ({_circumstances(content)})"
    _draw("start", {"": phases}, title, kind="barh", stacked=True)


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


def _pivoted(rows: pandas.DataFrame, **by: str) -> pandas.DataFrame:
    """One line for each value of `index`, in the order in which they were measured."""
    return rows.pivot_table(sort=False, **by)


def _draw(
    name: str, panels: dict[str, pandas.DataFrame], title: str, kind: str = "bar", **style: Any
) -> None:
    """One diagram for each table of `panels`, side by side: a group of bars for each line of it."""
    width = max(7.0, 3.2 * len(panels))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(width, 3.6), squeeze=False)
    for place, (label, bars) in enumerate(panels.items()):
        bars.plot(kind=kind, ax=axes[0, place], title=label, rot=0, legend=not place, **style)
    figure.suptitle(title)
    figure.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
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

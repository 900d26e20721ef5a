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

matplotlib.use("svg")

from matplotlib import pyplot

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "plots"

# Fixed ids and no date, so that equal figures make equal files.
matplotlib.rcParams["svg.hashsalt"] = "proxy-OAI-compat"


def plot_gateway(content: dict[str, Any]) -> None:
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


def plot_server(content: dict[str, Any]) -> None:
    """Requests a second by case, a rival beside the whole system."""
    rows = next(iter(content["tables"].values()))
    _bars(
        "server",
        [f"{row['case']}\n{row['connections']} conn." for row in rows],
        {
            "rival": [row["rival requests/s"] for row in rows],
            "proxy-OAI-compat": [row["ours requests/s"] for row in rows],
        },
        f"Requests a second, same checkpoint ({content['machine']})",
    )


PLOTS = {"gateway": plot_gateway, "server": plot_server}


def _bars(name: str, labels: Sequence[str], series: dict[str, list[float]], title: str) -> None:
    figure, axes = pyplot.subplots(figsize=(max(6.0, 0.9 * len(labels)), 3.6))
    width = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        places = [place + (number - 0.5) * width for place in range(len(labels))]
        axes.bar(places, values, width, label=label)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
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

"""What a benchmark hands back: rows of figures, as a table for people and as JSON for plots."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

Row = dict[str, Any]
Side = TypeVar("Side")


@dataclass
class Report:
    """Tables by title; a table is a list of rows with the same keys."""

    name: str
    tables: dict[str, list[Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        parts = [f"{title}\n{table(rows)}" for title, rows in self.tables.items()]
        return "\n\n".join([*parts, *self.notes, circumstances()])

    def write(self, path: Path) -> None:
        content = {
            "benchmark": self.name,
            "machine": machine(),
            "code": code(),
            "load": LOAD_BEFORE + load(),
            "at": int(time.time()),
            "tables": self.tables,
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> str:
    """Enough to judge the figures by, and nothing that names a host."""
    return f"{os.cpu_count()} cores, {platform.system()}, {platform.machine()}"


def load() -> list[float]:
    """How many processes wanted a core in the last minute: this benchmark's and all others."""
    return [round(os.getloadavg()[0], 1)]


LOAD_BEFORE = load()


def code() -> str:
    """The commit measured; "+" when the tree differs from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def circumstances() -> str:
    """What a figure is worth nothing without."""
    before, after = LOAD_BEFORE[0], load()[0]
    return f"Code {code()}; {machine()}; load {before:g} before, {after:g} at the end."


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, so that it can go into the docs as it is."""
    if not rows:
        return "(nothing measured)"
    names = list(rows[0])
    cells = [names, *([shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def shown(value: Any) -> str:
    """A figure with three significant digits; more would claim what nobody measured."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def alternated(sides: Sequence[Side], number: int) -> Sequence[Side]:
    """The sides in the order of that round: every other one goes the other way round, so that a
    machine that gets slower by and by is slower for all."""
    return sides[:: -1 if number % 2 else 1]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def medians(rows: Sequence[Row]) -> Row:
    """One row for several turns: each figure's median, and the sum of what is whole (errors)."""
    return {name: _of_turns([row[name] for row in rows]) for name in rows[0]}


def _of_turns(column: Sequence[Any]) -> Any:
    first = column[0]
    if isinstance(first, dict):
        return ", ".join(f"{name} {value:.3g}" for name, value in medians(column).items())
    if isinstance(first, int):
        return sum(column)
    return median(column) if first is not None else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of all values do not exceed; 0 when there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class ProgressBar:
    """What is measured now, of how much, on stderr."""

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total)

    def step(self, what: str) -> None:
        self._bar.set_description(what, refresh=False)
        self._bar.update()

    def end(self) -> None:
        self._bar.close()

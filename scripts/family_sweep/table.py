"""Writes what was found into docs/models.md."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from scripts.family_sweep.row import COLUMNS, NOT_ASKED, Row

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- families -->", "<!-- end of families -->"
HEADS = ("text", "1 picture", "2 pictures", "2 turns", "8 at once", "8, cached")
PACKAGES = ("mlx", "mlx-vlm", "transformers")


def with_tables(text: str, rows: Sequence[Row]) -> str:
    """Return `text` with what stands between its markers replaced."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{written(rows)}\n{END}{after}"


def written(rows: Sequence[Row]) -> str:
    """What was found as Markdown: how many, the two tables, what mlx-vlm itself does wrong."""
    seeing = [row for row in rows if row.pictures]
    of_text = [row for row in rows if not row.pictures]
    parts = [_stamp(), _summary("with pictures", seeing), _table(seeing)]
    if of_text:
        parts += [_summary("of text alone", of_text), _of_text(of_text)]
    parts += [_upstream(rows)]
    return "\n\n".join(part for part in parts if part)


def _stamp() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"Found by `scripts/families` on {datetime.date.today()}, with {versions}."


def _summary(kind: str, rows: Sequence[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"**{len(rows)} families {kind}**: {said}."


def _table(rows: Sequence[Row]) -> str:
    lines = [f"| family | {' | '.join(HEADS)} | off, or why not |", "|---" * (len(HEADS) + 2) + "|"]
    for row in sorted(rows, key=lambda row: row.family):
        cells = [row.said.get(column, NOT_ASKED) for column in COLUMNS]
        lines.append(f"| {row.family} | {' | '.join(cells)} | {_remark(row)} |")
    return "\n".join(lines)


def _of_text(rows: Sequence[Row]) -> str:
    equal = sorted(row.family for row in rows if row.verdict == "equal")
    others = [row for row in rows if row.verdict != "equal"]
    listed = f"Equal: {', '.join(equal)}."
    return f"{listed}\n\n{_table(others)}" if others else listed


def _upstream(rows: Sequence[Row]) -> str:
    lines = [
        f"- {row.family}, {', '.join(columns)}: {words}"
        for row in sorted(rows, key=lambda row: row.family)
        for words, columns in _by_words(row).items()
    ]
    return (
        "\n".join(["mlx-vlm by itself fails where there is nothing to compare with:", "", *lines])
        if lines
        else ""
    )


def _by_words(row: Row) -> dict[str, list[str]]:
    """What mlx-vlm fails with, and what was asked then."""
    found: dict[str, list[str]] = {}
    for column, words in row.upstream.items():
        found.setdefault(words, []).append(column)
    return found


def _remark(row: Row) -> str:
    why = row.refused or row.broken or ", ".join(name.replace("_", " ") for name in row.off)
    return " ".join(why.split()).replace("|", "\\|")

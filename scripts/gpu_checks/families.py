"""Six families with random weights: alone and in company, what mlx-vlm itself says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from scripts.benchmarks.in_process.engines import Ours, Request, ask, picture, user
from scripts.benchmarks.report import Row
from scripts.checkpoints.building import build
from scripts.family_sweep.reference import reference
from scripts.gpu_checks.answering import answers, common
from scripts.gpu_checks.sizes import Sizes

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "idefics3", "llava")
TOKENS = 12


def check(sizes: Sizes) -> dict[str, list[Row]]:
    with tempfile.TemporaryDirectory() as folder:
        return {"Families, float32": [_family(name, Path(folder)) for name in FAMILIES]}


def _family(name: str, folder: Path) -> Row:
    path = build(name, folder / name)
    ours = Ours(str(path))
    asked = _requests()
    expected = [
        reference(path, ours.engine.writer.write(request.job), request.images, TOKENS).tokens
        for request in asked
    ]
    alone = [answers(ours, [request])[0].tokens for request in asked]
    together = [said.tokens for said in answers(ours, asked)]
    row: Row = {"family": name, "of": len(asked)}
    for case, said in (("alone", alone), ("in company, cached", together)):
        shared = [common(one, other) for one, other in zip(said, expected, strict=True)]
        row[f"equal {case}"] = sum(length == TOKENS for length in shared)
        row[f"first to differ {case}"] = min((n for n in shared if n < TOKENS), default=None)
    row["ok"] = row["equal alone"] == row["equal in company, cached"] == len(asked)
    return row


def _requests() -> list[Request]:
    """Texts of unlike lengths, one picture, two unlike pictures."""
    one, other = picture(), picture(70, 120)
    return [
        ask("text", [user("What is in this image?")], tokens=TOKENS),
        ask("long", [user("How many shapes are there? " * 12)], tokens=TOKENS),
        ask("one", [user("What is it?", 0)], [one], tokens=TOKENS),
        ask("two", [user("And these?", 0, 1)], [other, one], tokens=TOKENS),
    ]

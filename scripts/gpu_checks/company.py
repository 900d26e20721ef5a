"""A row alone and in company: the same tokens in float32, and what half precision does to it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
from msgspec.structs import replace

from scripts.benchmarks.in_process.engines import Ours, Request, requests
from scripts.benchmarks.report import Row
from scripts.benchmarks.servers.processes import DEMO_MODEL
from scripts.gpu_checks.answering import Said, answers, common
from scripts.gpu_checks.sizes import Sizes

TOKENS = 48
DTYPES = ("float32", "bfloat16")


def check(sizes: Sizes) -> dict[str, list[Row]]:
    rows: list[Row] = []
    exact = os.environ.get("MLX_ENABLE_TF32") == "0"
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as folder:
            ours = Ours(str(copy_as(dtype, DEMO_MODEL, Path(folder) / "model")))
            for kind, pictures in (("text", False), ("a picture each", True)):
                asked = _with_logprobs(requests(sizes.answers, TOKENS, pictures))
                row = {"weights": dtype, "asked": kind, **_compare(ours, asked)}
                rows.append(row)
                if exact and dtype == "float32":
                    row["ok"] = row["equal"] == row["answers"]
    return {f"A row alone and in company, {'exact float32' if exact else 'as served'}": rows}


def copy_as(dtype: str, checkpoint: Path, folder: Path) -> Path:
    """Write the checkpoint with its weights in another precision, and return its folder."""
    shutil.copytree(checkpoint, folder)
    for file in folder.glob("*.safetensors"):
        weights = mx.load(str(file))
        assert isinstance(weights, dict)
        other = {name: value.astype(getattr(mx, dtype)) for name, value in weights.items()}
        mx.eval(other)
        mx.save_safetensors(str(file), other, metadata={"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": dtype}))
    return folder


def _with_logprobs(asked: list[Request]) -> list[Request]:
    return [Request(replace(one.job, logprobs=0), one.images) for one in asked]


def _compare(ours: Ours, asked: list[Request]) -> Row:
    alone = [answers(ours, [request])[0] for request in asked]
    together = answers(ours, [_renamed(request) for request in asked])
    shared = [common(a.tokens, b.tokens) for a, b in zip(alone, together, strict=True)]
    return {
        "answers": len(asked),
        "equal": sum(length == TOKENS for length in shared),
        "first_to_differ": min((length for length in shared if length < TOKENS), default=None),
        "largest_logprob_difference": max(
            _difference(a, b, length) for a, b, length in zip(alone, together, shared, strict=True)
        ),
    }


def _renamed(request: Request) -> Request:
    """The same, for whom no cache of the first time helps."""
    job = replace(request.job, id=f"{request.job.id}-again", cache_salt="again")
    return Request(job, request.images)


def _difference(one: Said, other: Said, length: int) -> float:
    """Between the log-probabilities of the tokens that both chose."""
    assert len(one.logprobs) == len(one.tokens), "no log-probabilities to compare"
    pairs = zip(one.logprobs[:length], other.logprobs[:length], strict=True)
    return max((abs(a - b) for a, b in pairs), default=0.0)

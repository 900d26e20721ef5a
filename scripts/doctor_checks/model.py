"""Is a model's folder complete, and does the model fit in memory?"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.doctor_checks.findings import GB, Finding, fine, note, wrong
from scripts.doctor_checks.machine import memory_bytes
from scripts.installation import ROOT
from scripts.own_server import OwnServer
from shared.model_path import HUB_ID, split_name

BUILT_IN_MODEL = ROOT / "worker" / "demo_model"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
INDEX = "model.safetensors.index.json"
AGAIN = "Download the model again: hf download goes on where it was cut off."

ESTIMATED_CONTEXT = 8192
ESTIMATED_SEQUENCES = 8
CACHE_BYTES_A_NUMBER = 2
USABLE_SHARE = 0.75
"""What macOS lets the GPU use of all memory, about."""


def check_served_model(own: OwnServer) -> Iterator[Finding]:
    """Look at the model that the settings here name; none: the built-in one."""
    path = next(iter(named_models(own).values()), str(BUILT_IN_MODEL))
    folder = own.below_home(path)
    if not folder.is_dir() and HUB_ID.fullmatch(path):
        yield fine(f"The model {path} comes from the hub; what was fetched is not looked at here")
        return
    yield from check_model(folder)


def named_models(own: OwnServer) -> dict[str, str]:
    """What `--model-path` names here, by its name or path: a folder or a hub id."""
    given = own.environment.get("WORKER_MODEL_PATH", "").split(",")
    split = [split_name(value.strip(), own.below_home("")) for value in given if value.strip()]
    return {name or path: path for name, path in split}


def check_model(path: Path, memory: int | None = None) -> Iterator[Finding]:
    if not path.is_dir():
        yield wrong(
            f"There is no folder {path}.",
            "Name a folder that exists; a hub id is fetched at the start and not looked at here.",
        )
        return
    config, problem = _read_json(path / "config.json")
    if problem:
        yield wrong(problem, AGAIN)
    if not any((path / name).exists() for name in TOKENIZERS):
        yield wrong(f"{path} has no tokenizer ({', '.join(TOKENIZERS)}).", AGAIN)
    weights, findings = _weights(path)
    yield from findings
    if config and "vision_config" not in config:
        yield note("config.json names no vision part.", "The model will answer text only.")
    if config and weights and not findings:
        yield fine(f"The model's folder is complete ({weights / GB:.2f} GB of weights)")
        yield _fits(config, weights, memory or memory_bytes())


def _weights(path: Path) -> tuple[int, list[Finding]]:
    """Return the bytes of all weight files and what is wrong with them."""
    files = sorted(path.glob("*.safetensors"))
    findings: list[Finding] = []
    if (path / INDEX).exists():
        index, problem = _read_json(path / INDEX)
        if problem:
            return 0, [wrong(problem, AGAIN)]
        files = [path / name for name in sorted(set(index["weight_map"].values()))]
        lost = [file.name for file in files if not file.exists()]
        if lost:
            findings.append(wrong(f"Weight files are missing: {', '.join(lost)}.", AGAIN))
    elif not files:
        findings.append(wrong(f"{path} has no weights (*.safetensors).", AGAIN))
    present = [file for file in files if file.exists()]
    for file in present:
        expected = expected_size(file)
        if expected != file.stat().st_size:
            findings.append(wrong(f"{file.name} is cut off or damaged.", AGAIN))
    return sum(file.stat().st_size for file in present), findings


def expected_size(file: Path) -> int | None:
    """Return how long a safetensors file must be by its own header; None: it has no sane one."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > file.stat().st_size:
                return None
            header = json.loads(opened.read(length))
        ends: list[int] = [
            entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"
        ]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return 8 + int(length) + max(ends, default=0)


def cache_bytes_a_token(config: dict[str, Any]) -> int:
    """Keys and values of one token in all layers; 0 when the configuration does not tell."""
    text = config.get("text_config", config)
    heads, layers = text.get("num_attention_heads"), text.get("num_hidden_layers")
    if not heads or not layers or not text.get("hidden_size"):
        return 0
    width = text.get("head_dim") or text["hidden_size"] // heads
    numbers = 2 * layers * (text.get("num_key_value_heads") or heads) * width
    return int(numbers) * CACHE_BYTES_A_NUMBER


def _fits(config: dict[str, Any], weights: int, memory: int) -> Finding:
    cache = cache_bytes_a_token(config) * ESTIMATED_CONTEXT * ESTIMATED_SEQUENCES
    usable = memory * USABLE_SHARE
    sizes = (
        f"{weights / GB:.1f} GB of weights, {cache / GB:.1f} GB for {ESTIMATED_SEQUENCES} answers "
        f"of {ESTIMATED_CONTEXT} tokens, {usable / GB:.1f} GB usable"
    )
    if weights > usable:
        return wrong(
            f"The model does not fit in memory: {sizes}.",
            "Take a smaller or quantised one (4 bit needs about a quarter of 16 bit).",
        )
    if weights + cache > usable:
        return note(
            f"Memory will be tight under load: {sizes}.",
            "Lower --max-concurrency, --max-streams or --max-context.",
        )
    return fine(f"It fits in memory: {sizes}")


def _read_json(file: Path) -> tuple[dict[str, Any], str]:
    try:
        return dict(json.loads(file.read_text())), ""
    except FileNotFoundError:
        return {}, f"{file} is missing."
    except (OSError, ValueError, TypeError) as error:
        return {}, f"{file} cannot be read: {error}."

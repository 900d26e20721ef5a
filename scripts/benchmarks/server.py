"""The whole system against another server with an OpenAI URL, on the same checkpoint, in turns.

The rival is started with a command line of the user's. Both get a copy of the checkpoint that
never ends an answer by itself, so that "64 tokens" are 64 tokens; every request has a number in
its text, so that nobody answers from a cache.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import shlex
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.benchmarks import closed_loop
from scripts.benchmarks.load import NUMBER, Target
from scripts.benchmarks.report import Progress, Report, Row, median
from scripts.benchmarks.tiers import ROOT, Service, serving, started

DESCRIPTION = "The whole system against a rival's server on the same checkpoint, in turns."

PATH = "/v1/chat/completions"
DEMO_MODEL = ROOT / "worker" / "demo_model"
SLOTS = "32"
WARM_UP_S = 2.0


@dataclass(frozen=True)
class Case:
    name: str
    tokens: int
    stream: bool = False
    image: bool = False


CASES = (
    Case("1 token", 1),
    Case("64 tokens", 64),
    Case("64 tokens, streamed", 64, stream=True),
    Case("1 image, 16 tokens", 16, image=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rival", help="command line that starts it; {model} becomes the checkpoint's folder"
    )
    parser.add_argument("--rival-url", default="http://127.0.0.1:8080", help="without a path")
    parser.add_argument("--rival-ready", default="/v1/models", help="answers 200 when it serves")
    parser.add_argument("--model-path", type=Path, default=DEMO_MODEL, help="a local checkpoint")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run of load")
    parser.add_argument("--rounds", type=int, default=3, help="turns each side gets")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])


def run(options: argparse.Namespace) -> Report:
    report = Report("server")
    progress = Progress(len(CASES) * len(options.connections))
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(endless_copy(options.model_path))
        flags = ["--model-path", str(model), "--max-concurrency", SLOTS, "--max-streams", SLOTS]
        service = stack.enter_context(serving(["--queue-size", "256"], flags))
        if options.rival:
            command = shlex.split(options.rival.replace("{model}", str(model)))
            ready_url = options.rival_url + options.rival_ready
            stack.enter_context(started("rival", command, ready_url))
        rows = list(_rows(service, str(model), options, progress))
        report.tables["Requests a second"] = rows
    progress.end()
    return report


def _rows(
    service: Service, model: str, options: argparse.Namespace, progress: Progress
) -> Iterator[Row]:
    for case in CASES:
        for connections in options.connections:
            progress.step(f"{case.name}, {connections} connections")
            ours = Target(service.url + PATH, json.dumps(body(case)))
            rival = Target(options.rival_url + PATH, json.dumps({"model": model, **body(case)}))
            yield _row(case, connections, ours, rival, options)


def _row(
    case: Case, connections: int, ours: Target, rival: Target, options: argparse.Namespace
) -> Row:
    for target in (rival, ours):
        closed_loop.run(target, connections, WARM_UP_S)
    turns = [
        (
            closed_loop.run(rival, connections, options.seconds),
            closed_loop.run(ours, connections, options.seconds),
        )
        for _ in range(options.rounds)
    ]
    return {
        "case": case.name,
        "connections": connections,
        "rival's tokens": answered_tokens(rival),
        "our tokens": answered_tokens(ours),
        "rival requests/s": median(theirs.per_second for theirs, _ in turns),
        "ours requests/s": median(mine.per_second for _, mine in turns),
        "ratio": median(m.per_second / max(t.per_second, 1e-9) for t, m in turns),
        "rival p50 ms": median(theirs.p50_s * 1e3 for theirs, _ in turns),
        "ours p50 ms": median(mine.p50_s * 1e3 for _, mine in turns),
        "rival p99 ms": median(theirs.p99_s * 1e3 for theirs, _ in turns),
        "ours p99 ms": median(mine.p99_s * 1e3 for _, mine in turns),
        "rival errors": sum(theirs.errors for theirs, _ in turns),
        "our errors": sum(mine.errors for _, mine in turns),
    }


def body(case: Case) -> dict[str, Any]:
    text = f"Question {NUMBER}: what is to be seen here?"
    content: str | list[dict[str, Any]] = text
    if case.image:
        image = {"type": "image_url", "image_url": {"url": picture()}}
        content = [image, {"type": "text", "text": text}]
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": case.tokens,
        "temperature": 0,
        "stream": case.stream,
    }


def picture() -> str:
    """A picture of 300 by 200 pixels as a data URL."""
    gradient = Image.linear_gradient("L").resize((300, 200)).convert("RGB")
    data = io.BytesIO()
    gradient.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


@contextlib.contextmanager
def endless_copy(checkpoint: Path) -> Iterator[Path]:
    """A copy whose end token is its padding token, which no answer contains."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / checkpoint.name
        shutil.copytree(checkpoint, copy)
        padding_id = json.loads((copy / "config.json").read_text())["pad_token_id"]
        padding = json.loads((copy / "tokenizer_config.json").read_text())["pad_token"]
        _change(copy / "config.json", eos_token_id=padding_id)
        _change(copy / "generation_config.json", eos_token_id=padding_id)
        _change(copy / "tokenizer_config.json", eos_token=padding)
        yield copy


def _change(path: Path, **fields: Any) -> None:
    if path.exists():
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def answered_tokens(target: Target) -> int:
    """Ask once, not streamed, and return how many tokens the answer says it has."""
    asked = json.loads(target.body) | {"stream": False}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(target.url, json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        usage = json.load(answer)["usage"]
    return int(usage.get("completion_tokens", usage.get("output_tokens", 0)))

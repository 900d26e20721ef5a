"""mlx-vlm's `BatchGenerator`, and our engine, each driven directly in this one process.

python -m scripts.benchmarks.in_process MODEL

Reads orders from stdin and answers each with one line on stdout, both JSON: `system.py` lets it
take turns with the whole system.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from scripts.benchmarks.engine import Ours, Request, Theirs
from shared.messages import ChatMessage, Job, Sampling, TextPart

GREEDY = Sampling(seed=0, temperature=0.0)


@dataclass(frozen=True)
class Order:
    """One wave: all texts at once, so many tokens each. `side`: "generator" or "engine"."""

    side: str
    texts: list[str]
    tokens: int


def job(name: str, text: str, tokens: int) -> Job:
    return Job(
        id=name,
        answer_id=name,
        request_id=name,
        model="",
        stream=True,
        sampling=GREEDY,
        messages=[ChatMessage(role="user", content=[TextPart(text=text)])],
        max_tokens=tokens,
        ignore_eos=True,
    )


def main(model: str) -> int:
    engine = Ours(model)
    generator = Theirs(model, engine.engine.render)
    sides: dict[str, Any] = {"engine": engine, "generator": generator}
    print("{}", flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        asked = [
            Request(job(str(number), text, order.tokens), [])
            for number, text in enumerate(order.texts)
        ]
        cpu_s = time.process_time()
        seconds = sides[order.side].run(asked)
        print(json.dumps({"seconds": seconds, "cpu_s": time.process_time() - cpu_s}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

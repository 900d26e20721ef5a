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

from scripts.benchmarks.engine_sides import Ours, Theirs, ask, user


@dataclass(frozen=True)
class Order:
    """One wave: all texts at once, so many tokens each. `side`: "generator" or "engine"."""

    side: str
    texts: list[str]
    tokens: int


def main(model: str) -> int:
    engine = Ours(model)
    generator = Theirs(model, engine.engine.writer.write)
    sides: dict[str, Any] = {"engine": engine, "generator": generator}
    print("{}", flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        asked = [
            ask(str(number), [user(text)], tokens=order.tokens)
            for number, text in enumerate(order.texts)
        ]
        cpu_s = time.process_time()
        seconds = sides[order.side].run(asked)
        print(json.dumps({"seconds": seconds, "cpu_s": time.process_time() - cpu_s}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The command line: one subcommand for each question that can be measured.

A new one is a module with `DESCRIPTION`, `add_arguments(parser)` and `run(options) -> Report`,
and a line in `QUESTIONS`. Modules are imported when asked for, so that measuring the gateway
needs no MLX.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

QUESTIONS = {
    "gateway": "the gateway with an engine that costs nothing, against the bare framework",
    "system": "the whole system against mlx-vlm's BatchGenerator driven in one process",
    "server": "the whole system against any server with an OpenAI URL",
    "start": "from scripts/serve to ready: how long, where it goes, what the tiers weigh",
    "catalogue": "models that are loaded when they are asked for, against workers of one each",
    "blas": "MLX on a Linux CPU with and without OpenBLAS, by threads and precision",
    "scale": "a hundred Macs: the real core of dispatch on simulated workers",
    "steps": "whether an engine that decodes for hours takes more and more memory",
    "engine": "the engine against mlx-vlm's BatchGenerator driven directly",
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=QUESTIONS, help=_listed())
    if not argv or argv[0] not in QUESTIONS:
        parser.parse_args(argv)
    module = import_module(f"scripts.benchmarks.{argv[0]}")
    parser = argparse.ArgumentParser(
        prog=f"scripts/bench {argv[0]}",
        description=module.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    module.add_arguments(parser)
    options = parser.parse_args(argv[1:])
    # So that the servers under test are stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = module.run(options)
    print(report.text())
    if options.json is not None:
        report.write(options.json)
    return 0


def _listed() -> str:
    return "; ".join(f"{name}: {what}" for name, what in QUESTIONS.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

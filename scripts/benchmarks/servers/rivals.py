"""Servers to compare: ours, and those whose command line the user gives."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.benchmarks.servers.processes import NOTHING, Server, free_port, serving, started
from worker.engine.model import blas

SLOTS = "32"

KNOWN = {
    "mlx-vlm": f"{sys.executable} -m mlx_vlm.server --model {{model}} --host 127.0.0.1"
    " --port {port} --log-level WARNING",
    "vllm-mlx": "vllm-mlx serve {model} --host 127.0.0.1 --port {port}"
    " --continuous-batching --mllm",
}
"""Commands of servers that need no more than to be named, when they are installed."""

READY = "/v1/models"


@dataclass(frozen=True)
class Side:
    """One of the servers compared.

    Args:
        start: takes the checkpoint's folder; the server stops when the context ends.
    """

    name: str
    start: Callable[[Path], AbstractContextManager[Server]]


def ours(environment: Mapping[str, str] = NOTHING) -> Side:
    """Both tiers; `environment` is the worker's."""

    def start(model: Path) -> AbstractContextManager[Server]:
        flags = ["--model-path", str(model), "--max-concurrency", SLOTS, "--max-streams", SLOTS]
        return serving(["--queue-size", "256"], flags, environment)

    return Side("ours", start)


def rival(asked: str, ready: str = READY, environment: Mapping[str, str] = NOTHING) -> Side:
    """
    Args:
        asked: NAME=COMMAND, or a name of `KNOWN`; the command's {model} and {port} are filled in.
        environment: added to what it inherits.

    Raises:
        ValueError: neither of both.
    """
    name, equals, command = asked.partition("=")
    if not equals and name not in KNOWN:
        known = ", ".join(KNOWN)
        raise ValueError(f"--rival {asked}: expected NAME=COMMAND, or one of {known}")

    def start(model: Path) -> AbstractContextManager[Server]:
        port = free_port()
        words = shlex.split(command or KNOWN[name])
        filled = [word.format(model=model, port=port) for word in words]
        return started(name, filled, port, ready, environment, str(model))

    return Side(name, start)


@cache
def our_blas() -> Mapping[str, str]:
    """The environment that gives another MLX process on Linux the OpenBLAS that our worker loads;
    nothing where there is none."""
    library = blas.load()
    return NOTHING if library is None else {"LD_PRELOAD": library}

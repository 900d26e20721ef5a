"""Servers to compare: ours, and those whose command line the user gives."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.benchmarks.tiers import NOTHING, Tier, free_port, serving, started
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
class Running:
    """A server that is up. `model`: what requests must name, None where they need not."""

    url: str
    tiers: tuple[Tier, ...]
    model: str | None
    ready_s: float


@dataclass(frozen=True)
class Side:
    """One of the servers compared.

    Args:
        start: takes the checkpoint's folder; the server stops when the context ends.
    """

    name: str
    start: Callable[[Path], AbstractContextManager[Running]]


def ours(environment: Mapping[str, str] = NOTHING) -> Side:
    """Both tiers; `environment` is the worker's."""

    @contextlib.contextmanager
    def start(model: Path) -> Iterator[Running]:
        began = time.monotonic()
        flags = ["--model-path", str(model), "--max-concurrency", SLOTS, "--max-streams", SLOTS]
        with serving(["--queue-size", "256"], flags, environment) as service:
            ready_s = time.monotonic() - began
            yield Running(service.url, (service.gateway, service.worker), None, ready_s)

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
    command = command or KNOWN[name]

    @contextlib.contextmanager
    def start(model: Path) -> Iterator[Running]:
        began = time.monotonic()
        port = free_port()
        words = [w.format(model=model, port=port) for w in shlex.split(command)]
        url = f"http://127.0.0.1:{port}"
        with started(name, words, url + ready, environment) as tier:
            yield Running(url, (tier,), str(model), time.monotonic() - began)

    return Side(name, start)


@cache
def our_blas() -> Mapping[str, str]:
    """The environment that gives another MLX process on Linux the OpenBLAS that our worker loads;
    nothing where there is none."""
    library = blas.load()
    return NOTHING if library is None else {"LD_PRELOAD": library}

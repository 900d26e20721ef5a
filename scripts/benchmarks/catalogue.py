"""Models on demand: what a load costs, what a loaded model costs, and whether answers stay right.

Three checkpoints with random weights are made on the spot; two of them fit at once. Each side that
is compared takes turns with the other; first tokens count from the request, and of a fresh start
from the start of its worker.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from scripts.benchmarks.report import Report, Row, median
from scripts.benchmarks.servers.processes import Tier, free_port
from scripts.checkpoints.building import build

DESCRIPTION = "Models on demand against workers that have one model each, three where two fit."

NAMES = ("m0", "m1", "m2")
QUESTIONS = 3
FLAGS = ("--max-concurrency", "4", "--max-streams", "2")
CACHES = ("--prefix-cache-gib", "0.05", "--vision-cache-gib", "0.02")
TWO_OF_THREE = 2.5
GIB = 2**30
RETRY_S = 0.02
LOOK_S = 0.1
TIMEOUT_S = 300.0
WANTED_FIRST_TOKEN = 1.1
WANTED_MEMORY = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=int, default=12, help="of each model; 12: 116 MB")
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison")
    parser.add_argument("--clients", type=int, default=12, help="that ask at random")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which they ask")
    parser.add_argument("--kills", type=int, default=3, help="of engines that load, meanwhile")


@dataclass
class Fleet:
    """A gateway of its own and its worker, if there is one."""

    url: str
    wire: str
    environment: dict[str, str]
    worker: Tier | None = None
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=TIMEOUT_S, trust_env=False)
    )

    def start(self, *flags: str) -> Tier:
        command = [sys.executable, "-m", "worker", "--gateway", self.wire, *FLAGS, *CACHES, *flags]
        self.worker = Tier("worker", command, self.environment)
        return self.worker

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def order(self, action: str, model: str) -> None:
        body = {"model": model, "wait": True}
        self.client.post(f"{self.url}/v1/models/{action}", json=body).raise_for_status()

    def models(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.client.get(f"{self.url}/v1/models").json()["data"]
        return listed

    def ask(self, model: str, question: int) -> httpx.Response:
        return self.client.post(f"{self.url}/v1/chat/completions", json=_body(model, question))

    def stream(self, model: str, tokens: int = 12) -> tuple[float, float]:
        """Returns seconds to the first token and from it to the last, asking until it is taken."""
        began = time.monotonic()
        body = {**_body(model, 0, tokens), "stream": True}
        while True:
            with self.client.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
                if answer.status_code == httpx.codes.OK:
                    told = [time.monotonic() for line in answer.iter_lines() if _has_text(line)]
                    return told[0] - began, told[-1] - told[0]
            time.sleep(RETRY_S)

    def engines(self) -> list[psutil.Process]:
        return [] if self.worker is None else self.worker.family()[1:]


def run(options: argparse.Namespace) -> Report:
    report = Report("catalogue")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number, name in enumerate(NAMES):
            build("qwen2_vl", folder / name, width=512, layers=options.layers, seed=number)
        environment = {"WORKER_PROOF_CACHE": str(folder / "proofs")}
        demand = stack.enter_context(_gateway(environment))
        fixed = stack.enter_context(_gateway(environment))
        alone = {name: _alone(fixed, folder, name) for name in NAMES}
        _start_catalogue(demand, folder)
        report.tables["First token, seconds from the request"] = _first_tokens(
            demand, fixed, folder, options.rounds
        )
        report.tables["A model that is loaded"] = _loaded(demand, fixed, folder, options.rounds)
        report.tables["Clients that ask at random"] = [_storm(demand, alone, options)]
        report.tables["Memory, MiB"] = _memory(demand)
    size_mb = options.layers * 9.7
    report.notes.append(
        f"Wanted: first tokens at most {WANTED_FIRST_TOKEN}; after unloading at most "
        f"{WANTED_MEMORY:.0%} of what loading took. Three models of about {size_mb:.0f} MB each."
    )
    return report


@contextlib.contextmanager
def _gateway(environment: dict[str, str]) -> Iterator[Fleet]:
    port, wire = free_port(), f"tcp://127.0.0.1:{free_port()}"
    bound = ["--host", "127.0.0.1", "--port", str(port), "--bind", wire]
    gateway = Tier("gateway", [sys.executable, "-m", "gateway", *bound])
    fleet = Fleet(f"http://127.0.0.1:{port}", wire, environment)
    try:
        gateway.await_answer(f"{fleet.url}/health")
        yield fleet
    finally:
        fleet.stop()
        fleet.client.close()
        gateway.stop()


def _start_catalogue(fleet: Fleet, folder: Path) -> None:
    """With a budget in which two of the models fit."""
    given = [f"--model-path={folder / name}" for name in NAMES]
    fleet.start(*given, "--memory-budget-gib", "64")
    _await(lambda: len(fleet.models()) == len(NAMES))
    size = max(model["memory_bytes"] for model in fleet.models())
    fleet.stop()
    _await(lambda: not fleet.models())
    fleet.start(*given, "--memory-budget-gib", str(TWO_OF_THREE * size / GIB))
    _await(lambda: len(fleet.models()) == len(NAMES))


def _alone(fleet: Fleet, folder: Path, name: str) -> list[str]:
    """What the model answers where there is no other, and nobody else asks."""
    fleet.start(f"--model-path={folder / name}")
    fleet.stream(name)
    texts = [_text(fleet.ask(name, question)) for question in range(QUESTIONS)]
    fleet.stop()
    return texts


def _first_tokens(demand: Fleet, fixed: Fleet, folder: Path, rounds: int) -> list[Row]:
    asked, started = [], []
    demand.stream(NAMES[0])
    for _ in range(rounds):
        demand.order("unload", NAMES[0])
        asked.append(demand.stream(NAMES[0])[0])
        demand.order("unload", NAMES[0])
        began = time.monotonic()
        fixed.start(f"--model-path={folder / NAMES[0]}")
        fixed.stream(NAMES[0], tokens=1)
        started.append(time.monotonic() - began)
        fixed.stop()
    return [
        {
            "rounds": rounds,
            "of a model that is not loaded": median(asked),
            "of a worker started for it": median(started),
            "ratio": median(asked) / median(started),
        }
    ]


def _loaded(demand: Fleet, fixed: Fleet, folder: Path, rounds: int) -> list[Row]:
    sides = {"on demand": demand, "the only one": fixed}
    fixed.start(f"--model-path={folder / NAMES[0]}")
    for fleet in sides.values():
        fleet.stream(NAMES[0])
    taken: dict[str, list[tuple[float, float, float]]] = {side: [] for side in sides}
    tokens = 64
    for number in range(4 * rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            fleet = sides[side]
            assert fleet.worker is not None
            before_s = fleet.worker.cpu_s()
            first_s, rest_s = fleet.stream(NAMES[0], tokens)
            cpu_s = fleet.worker.cpu_s() - before_s
            taken[side].append((first_s, rest_s, cpu_s))
    fixed.stop()
    rows: list[Row] = []
    for side, figures in taken.items():
        first_s, rest_s, cpu_s = (median(column) for column in zip(*figures, strict=True))
        rate = (tokens - 1) / rest_s if rest_s else 0.0
        rows.append(
            {"side": side, "first token, s": first_s, "tokens/s": rate, "CPU s an answer": cpu_s}
        )
    return rows


def _storm(fleet: Fleet, alone: dict[str, list[str]], options: argparse.Namespace) -> Row:
    counts: Counter[str] = Counter()
    waits: list[float] = []
    ends = time.monotonic() + options.seconds

    def ask_on(number: int) -> None:
        chosen = random.Random(number)
        while time.monotonic() < ends:
            name, question = chosen.choice(NAMES), chosen.randrange(QUESTIONS)
            began = time.monotonic()
            answer = fleet.ask(name, question)
            waits.append(time.monotonic() - began)
            if answer.status_code == httpx.codes.OK:
                counts["right" if _text(answer) == alone[name][question] else "wrong"] += 1
            else:
                counts[str(answer.status_code)] += 1
                time.sleep(min(5.0, float(answer.headers.get("Retry-After", 1))))

    clients = [threading.Thread(target=ask_on, args=(n,)) for n in range(options.clients)]
    for client in clients:
        client.start()
    kills, most = _kill_while_loading(fleet, options.kills, clients)
    refused = {code: n for code, n in counts.items() if code not in ("right", "wrong")}
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        "answers": counts["right"] + counts["wrong"],
        "not the model's": counts["wrong"],
        "refused": ", ".join(f"{n} with {code}" for code, n in refused.items()) or "none",
        "killed while loading": kills,
        "most engines at once": most,
        "longest wait, s": max(waits),
    }


def _kill_while_loading(
    fleet: Fleet, wanted: int, clients: Sequence[threading.Thread]
) -> tuple[int, int]:
    """Until all clients have ended. Returns how many were killed, and the most engines seen."""
    killed: set[int] = set()
    hit: Counter[str] = Counter()
    most = 0
    while any(client.is_alive() for client in clients):
        engines = {_model_of(process): process for process in fleet.engines()}
        most = max(most, len(fleet.engines()))
        loading = [m["id"] for m in fleet.models() if m["status"]["value"] == "loading"]
        # Another one each time: a model that has just failed is left alone for a while.
        fresh = [name for name in loading if name in engines and not hit[name]]
        if len(killed) < wanted and fresh and engines[fresh[0]].pid not in killed:
            hit[fresh[0]] += 1
            killed.add(engines[fresh[0]].pid)
            with contextlib.suppress(psutil.Error):
                engines[fresh[0]].kill()
        time.sleep(LOOK_S)
    return len(killed), most


def _memory(fleet: Fleet) -> list[Row]:
    def measured(state: str) -> Row:
        assert fleet.worker is not None
        held = sum(_held_bytes(process) for process in fleet.worker.family())
        free = psutil.virtual_memory().available
        return {"state": state, "worker and engines": held / 2**20, "free": free / 2**20}

    for name in NAMES:
        fleet.order("unload", name)
    rows = [measured("none loaded")]
    for name in NAMES[:2]:
        fleet.order("load", name)
        _text(fleet.ask(name, 0))
    rows.append(measured("two loaded"))
    for name in NAMES:
        fleet.order("unload", name)
    rows.append(measured("unloaded again"))
    key = "worker and engines"
    before, loaded, after = (row[key] for row in rows)
    rows.append({"state": "not come back, share", key: (after - before) / (loaded - before)})
    return rows


def _held_bytes(process: psutil.Process) -> int:
    """Its own, and its part of what it shares with others; where that is not told, its own."""
    try:
        told = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(told, "pss", 0) or told.uss)


def _model_of(process: psutil.Process) -> str:
    flag = "--served-model-name="
    with contextlib.suppress(psutil.Error):
        for word in process.cmdline():
            if word.startswith(flag):
                return str(word.removeprefix(flag))
    return ""


def _body(model: str, question: int, tokens: int = 12) -> dict[str, Any]:
    turn = {"role": "user", "content": f"What is in image {question}?"}
    return {
        "model": model,
        "messages": [turn],
        "max_tokens": tokens,
        "temperature": 0,
    }


def _has_text(line: str) -> bool:
    return '"content":"' in line and '"content":""' not in line


def _text(answer: httpx.Response) -> str:
    answer.raise_for_status()
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def _await(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError("a tier does not come to the state that is measured")
        time.sleep(RETRY_S)

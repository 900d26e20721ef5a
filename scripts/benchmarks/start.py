"""How long `scripts/serve` takes until it serves, where that time goes, and what the tiers weigh.

The environment is the one this runs in: installing packages is not measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import psutil

from scripts.benchmarks.in_process.start_phases import INTERPRETER
from scripts.benchmarks.report import ProgressBar, Report, Row, median
from scripts.benchmarks.servers.processes import DEMO_MODEL, ROOT, Tier, free_port

DESCRIPTION = "From scripts/serve to ready, and what the processes weigh."

WANTED_READY_S = 5.0
WANTED_GATEWAY_MB = 120.0
ROLES = {"gateway": "gateway", "worker": "supervisor", "worker.engine_process": "engine"}
"""By the module that a process runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5, help="starts, after one that warms up")
    parser.add_argument("--model-path", default="", help="none: the demo model")


def run(options: argparse.Namespace) -> Report:
    report = Report("start")
    progress = ProgressBar(2 * (options.rounds + 1))
    starts, phases = [], []
    for number in range(options.rounds + 1):
        progress.step(f"start {number + 1}")
        starts.append(one_start(options.model_path))
        progress.step(f"phases of start {number + 1}")
        phases.append(engine_phases(options.model_path))
    progress.end()
    report.tables["From scripts/serve to ready"] = [start_row(starts[1:])]
    report.tables["Where the engine's start goes"] = phase_rows(phases[1:])
    report.tables["Resident memory, MB, nothing asked yet"] = [
        {
            **{name: median(start[name] for start in starts[1:]) for name in ROLES.values()},
            "wanted of the gateway": WANTED_GATEWAY_MB,
        }
    ]
    return report


def one_start(model_path: str) -> Row:
    """Start both tiers as `scripts/serve` does; return seconds, and megabytes by process."""
    port, wire = free_port(), f"tcp://127.0.0.1:{free_port()}"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "scripts.launch.serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--bind", wire, "--gateway", wire]
    command += ["--model-path", model_path] if model_path else []
    began = time.monotonic()
    tier = Tier("scripts/serve", command)
    try:
        tier.await_answer(f"{url}/health")
        healthy_s = time.monotonic() - began
        tier.await_answer(f"{url}/ready")
        ready_s = time.monotonic() - began
        cpu_s = tier.cpu_s()
        weights = {role_of(process): process.memory_info().rss for process in tier.family()}
    finally:
        tier.stop()
    megabytes = {name: weights.get(name, 0) / 1e6 for name in ROLES.values()}
    return {"healthy_s": healthy_s, "ready_s": ready_s, "cpu_s": cpu_s, **megabytes}


def role_of(process: psutil.Process) -> str:
    """What a process of ours is; empty for those that only hold others."""
    words = process.cmdline()
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return ROLES.get(module, "")


def engine_phases(model_path: str) -> dict[str, dict[str, float]]:
    """Raises subprocess.CalledProcessError when the engine does not start."""
    module = "scripts.benchmarks.in_process.start_phases"
    command = [sys.executable, "-m", module, model_path or str(DEMO_MODEL)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def start_row(starts: list[Row]) -> Row:
    return {
        "gateway answers, s": median(start["healthy_s"] for start in starts),
        "ready, s": median(start["ready_s"] for start in starts),
        "longest, s": max(start["ready_s"] for start in starts),
        "wanted, s": WANTED_READY_S,
        "CPU of all processes, s": median(start["cpu_s"] for start in starts),
    }


def phase_rows(phases: list[dict[str, dict[str, float]]]) -> list[Row]:
    return [
        {
            "phase": name,
            "s": median(one["wall_s"][name] for one in phases) if name != INTERPRETER else None,
            "CPU s": median(one["cpu_s"][name] for one in phases),
        }
        for name in phases[0]["cpu_s"]
    ]

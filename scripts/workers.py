"""Lists, drains and restarts workers through the gateway (`scripts/workers` runs this)."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scripts.installation import command_name
from scripts.orders import GatewayClient, order_flags, print_table, refusal, run_order
from scripts.own_server import OwnServer
from shared.settings import OneLineParser

RESTART_TIMEOUT_S = 600.0
LOOK_EVERY_S = 0.2


class Fleet(GatewayClient):
    """The workers of one gateway."""

    def workers(self) -> list[dict[str, Any]]:
        return self.listed("/v1/workers")

    def order(self, worker: str, action: str) -> str | None:
        """Return what went wrong, or None."""
        if problem := ambiguous([w for w in self.workers() if w["id"] == worker]):
            return problem
        answer = self.http.post(f"/v1/workers/{worker}", json={"action": action})
        return None if answer.is_success else refusal(answer)

    def await_restart(self, worker: str, old_pid: int) -> bool:
        """Wait until the worker is ready with a new engine process."""
        until = time.monotonic() + RESTART_TIMEOUT_S
        while time.monotonic() < until:
            for found in self.workers():
                ready = found["id"] == worker and found["state"] == "ready"
                if ready and found.get("pid") != old_pid:
                    return True
            time.sleep(LOOK_EVERY_S)
        return False


def ambiguous(workers: Sequence[dict[str, Any]]) -> str | None:
    """Say which name stands for several workers: an order reaches one, and nobody knows which."""
    counts = Counter(worker["id"] for worker in workers)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        return (
            f"several workers have the same name: {', '.join(twice)}. Start each with a --name of "
            "its own (or WORKER_NAME)"
        )
    return None


def parse_arguments(own: OwnServer, argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        prog=command_name("workers"),
        description="List, drain and restart workers through the gateway.",
        parents=order_flags(own, again=False),
    )
    actions = parser.add_subparsers(dest="action", required=True)
    parents = order_flags(own, again=True)
    actions.add_parser("list", help="show the workers", parents=parents)
    for action in ("drain", "resume", "restart"):
        one = actions.add_parser(action, help=f"tell one worker to {action}", parents=parents)
        one.add_argument("worker")
    every = "restart all, one after another; nothing is lost"
    actions.add_parser("rolling-restart", help=every, parents=parents)
    return parser.parse_args(argv)


def main() -> int:
    return run_order(command_name("workers"), parse_arguments, _act)


def _act(options: argparse.Namespace, key: str) -> str | None:
    with Fleet(options.url, key) as fleet:
        if options.action == "list":
            show(fleet)
            return None
        if options.action == "rolling-restart":
            return rolling_restart(fleet)
        return fleet.order(options.worker, options.action)


def show(fleet: Fleet) -> None:
    rows = [("WORKER", "STATE", "MODEL", "ACTIVE", "SLOTS", "MEMORY")]
    for worker in fleet.workers():
        slots = f"{worker.get('slots', '-')}+{worker.get('stream_slots', '-')}"
        memory = f"{worker.get('memory_bytes', 0) / 2**30:.2f} GiB"
        active = str(worker.get("active", "-"))
        rows.append((worker["id"], worker["state"], worker["model"], active, slots, memory))
    print_table(rows)


def rolling_restart(fleet: Fleet) -> str | None:
    """Return what went wrong, or None."""
    workers = fleet.workers()
    if problem := ambiguous(workers):
        return problem
    for worker in workers:
        if worker["state"] != "ready":
            continue
        print(f"restarting {worker['id']} ...", flush=True)
        problem = fleet.order(worker["id"], "restart")
        if problem or not fleet.await_restart(worker["id"], worker["pid"]):
            return problem or "it did not come back in time; stopped here"
    print("all workers run fresh engines")
    return None


if __name__ == "__main__":
    sys.exit(main())

"""Lists, drains and restarts workers through the gateway (`scripts/workers` runs this)."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

from scripts.installation import command_name
from scripts.loopback import is_loopback
from scripts.own_server import OwnServer, server_flags
from shared.settings import SettingsError

RESTART_TIMEOUT_S = 600.0
LOOK_EVERY_S = 0.2

ADMIN_KEY_VARIABLE = "GATEWAY_ADMIN_KEY"
"""As the gateway's own: it may hold several, apart by commas or spaces, of which one will do."""


class Fleet:
    """The workers of one gateway. Raises httpx.HTTPError when the gateway does not answer."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            base_url=url, headers=headers, timeout=10, trust_env=not is_loopback(url)
        )

    def close(self) -> None:
        self._client.close()

    def workers(self) -> list[dict[str, Any]]:
        answer = self._client.get("/v1/workers")
        answer.raise_for_status()
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    def order(self, worker: str, action: str) -> str | None:
        """Return what went wrong, or None."""
        if problem := ambiguous([w for w in self.workers() if w["id"] == worker]):
            return problem
        answer = self._client.post(f"/v1/workers/{worker}", json={"action": action})
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


def refusal(answer: httpx.Response) -> str:
    """Return the gateway's own words, and what to do where only this command knows it."""
    if answer.status_code == 401:
        return (
            "The gateway asks for a key: give it with --admin-key or --key, "
            f"or set {ADMIN_KEY_VARIABLE} or OPENAI_API_KEY."
        )
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code}: no gateway of this project?"


def parse_arguments(own: OwnServer, argv: Sequence[str] | None = None) -> argparse.Namespace:
    def flags(again: bool) -> list[argparse.ArgumentParser]:
        orders = argparse.ArgumentParser(add_help=False)
        orders.add_argument(
            "--admin-key",
            default=argparse.SUPPRESS if again else "",
            help="an admin key, where the gateway asks for one; instead of --key "
            f"[default: that of the server here; environment: {ADMIN_KEY_VARIABLE}]",
        )
        return [server_flags(own, again=again), orders]

    parser = argparse.ArgumentParser(
        prog=command_name("workers"),
        description="List, drain and restart workers through the gateway.",
        parents=flags(again=False),
    )
    actions = parser.add_subparsers(dest="action", required=True)
    parents = flags(again=True)
    actions.add_parser("list", help="show the workers", parents=parents)
    for action in ("drain", "resume", "restart"):
        one = actions.add_parser(action, help=f"tell one worker to {action}", parents=parents)
        one.add_argument("worker")
    every = "restart all, one after another; nothing is lost"
    actions.add_parser("rolling-restart", help=every, parents=parents)
    return parser.parse_args(argv)


def main() -> int:
    try:
        own = OwnServer()
        options = parse_arguments(own)
        key = options.admin_key or own.admin_key(options.url)
        key = key or options.key or own.api_key(options.url)
    except SettingsError as error:
        print(f"{command_name('workers')}: {error}", file=sys.stderr)
        return 2
    with contextlib.closing(Fleet(options.url, key)) as fleet:
        try:
            if options.action == "list":
                return show(fleet)
            if options.action == "rolling-restart":
                return rolling_restart(fleet)
            problem = fleet.order(options.worker, options.action)
        except httpx.HTTPStatusError as error:
            problem = refusal(error.response)
        except httpx.ConnectError:
            problem = f"no server answers at {options.url}; name another with --url"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = f"the gateway at {options.url} does not answer as it should: {error}"
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def show(fleet: Fleet) -> int:
    rows = [("WORKER", "STATE", "MODEL", "ACTIVE", "SLOTS", "MEMORY")]
    for worker in fleet.workers():
        slots = f"{worker.get('slots', '-')}+{worker.get('stream_slots', '-')}"
        memory = f"{worker.get('memory_bytes', 0) / 2**30:.2f} GiB"
        active = str(worker.get("active", "-"))
        rows.append((worker["id"], worker["state"], worker["model"], active, slots, memory))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    return 0


def rolling_restart(fleet: Fleet) -> int:
    workers = fleet.workers()
    if problem := ambiguous(workers):
        print(problem, file=sys.stderr)
        return 1
    for worker in workers:
        if worker["state"] != "ready":
            continue
        print(f"restarting {worker['id']} ...", flush=True)
        problem = fleet.order(worker["id"], "restart")
        if problem or not fleet.await_restart(worker["id"], worker["pid"]):
            print(problem or "it did not come back in time; stopped here", file=sys.stderr)
            return 1
    print("all workers run fresh engines")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Lists, loads and unloads models through the gateway, and plans (`scripts/models` runs this)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from scripts.installation import command_name
from scripts.orders import GatewayClient, order_flags, print_table, refusal, run_order
from scripts.own_server import OwnServer
from shared.settings import OneLineParser

GIB = 2**30


def parse_arguments(own: OwnServer, argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        prog=command_name("models"),
        description="List, load and unload models through the gateway; plan their memory.",
        parents=order_flags(own, again=False),
    )
    actions = parser.add_subparsers(dest="action", required=True)
    parents = order_flags(own, again=True)
    listing = actions.add_parser("list", help="show all models and how they are", parents=parents)
    listing.add_argument(
        "--cached",
        action="store_true",
        help="instead, what the hub's cache on this machine holds, for --model-path",
    )
    for action, meaning in (
        ("load", "load a model of a worker's catalogue, and wait until it is loaded"),
        ("unload", "unload a model, pinned or not, when what runs is finished"),
    ):
        one = actions.add_parser(action, help=meaning, parents=parents)
        one.add_argument("model", help="one of its names")
        one.add_argument("--no-wait", action="store_true", help="do not wait until it is done")
    plan = actions.add_parser(
        "plan", help="what a model would take of this machine's memory, without loading it"
    )
    plan.add_argument("model", help="a folder or a hub id")
    plan.add_argument(
        "--memory-budget-gib",
        type=float,
        help="memory for weights and caches [default: three quarters of what the device has]",
    )
    return parser.parse_args(argv)


def main() -> int:
    return run_order(command_name("models"), parse_arguments, _act)


def _act(options: argparse.Namespace, key: str) -> str | None:
    if options.action == "plan":
        return _plan(options.model, options.memory_budget_gib)
    if options.action == "list" and options.cached:
        _show_cached()
        return None
    with GatewayClient(options.url, key) as gateway:
        if options.action == "list":
            show(gateway.listed("/v1/models"))
            return None
        order = {"model": options.model, "wait": not options.no_wait}
        # The gateway's own limit ends the wait, whatever it is.
        answer = gateway.http.post(f"/v1/models/{options.action}", json=order, timeout=None)
        if not answer.is_success:
            return refusal(answer)
        show([answer.json()])
        return None


def _plan(model: str, budget_gib: float | None) -> str | None:
    from scripts.model_plan import PlanError, make_plan  # the hub's library takes its time

    try:
        plan = make_plan(model, budget_gib)
    except PlanError as error:
        return str(error)
    print("\n".join(plan.lines()))
    return None if plan.fits else "More memory is wanted."


def _show_cached() -> None:
    from scripts.cached_models import cached_models  # the hub's library takes its time

    rows = [
        (model.name, f"{model.bytes / GIB:.2f} GiB", "whole" if model.whole else "in part")
        for model in cached_models()
    ]
    print_table([("MODEL", "SIZE", "HERE"), *rows])


def show(models: Sequence[dict[str, Any]]) -> None:
    """Print a line for each model; an alias has none of its own."""
    rows = [("MODEL", "STATUS", "MEMORY", "IDLE", "WORKERS", "ALIASES")]
    named = [model for model in models if model["id"] not in model["aliases"]]
    rows += map(_row, named)
    print_table(rows)
    for model in named:
        if model["status"]["error"]:
            print(f"{model['id']}: {model['status']['error']}")


def _row(model: dict[str, Any]) -> tuple[str, str, str, str, str, str]:
    status, size, idle_s = model["status"], model["memory_bytes"], model["idle_s"]
    words = status["value"] + (", pinned" if model["pinned"] else "")
    words += ", draining" if model["draining"] else ""
    if status["value"] in ("loading", "downloading"):
        words += f" {status['fraction']:.0%}"
    download = model["download"]
    if download and download["total_bytes"]:
        words += f", {download['done_bytes'] / GIB:.2f} of {download['total_bytes'] / GIB:.2f} GiB"
    return (
        model["id"],
        words,
        f"{size / GIB:.2f} GiB" if size else "-",
        f"{idle_s:.0f} s" if idle_s is not None else "-",
        ", ".join(model["workers"]) or "-",
        ", ".join(model["aliases"]) or "-",
    )


if __name__ == "__main__":
    sys.exit(main())

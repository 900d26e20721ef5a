"""What the commands that give a gateway orders have in common: its address, keys, refusals."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

import httpx

from scripts.loopback import is_loopback
from scripts.own_server import OwnServer, checked, server_flags
from shared.settings import OneLineParser, SettingsError

ADMIN_KEY_VARIABLE = "GATEWAY_ADMIN_KEY"
"""As the gateway's own: it may hold several, apart by commas or spaces, of which one will do."""


class GatewayClient:
    """One gateway. Raises httpx.HTTPError when it does not answer."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(
            base_url=url, headers=headers, timeout=10, trust_env=not is_loopback(url)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def listed(self, path: str) -> list[dict[str, Any]]:
        """Return what a list of the API holds."""
        answer = self.http.get(path)
        answer.raise_for_status()
        data: list[dict[str, Any]] = answer.json()["data"]
        return data


def order_flags(own: OwnServer, *, again: bool) -> list[OneLineParser]:
    """Parents of a command's parser, or, `again`, of its verbs', so that the flags may stand on
    either side."""
    orders = OneLineParser(add_help=False)
    orders.add_argument(
        "--admin-key",
        default=argparse.SUPPRESS if again else "",
        help="an admin key, where the gateway asks for one; instead of --key "
        f"[default: that of the server here; environment: {ADMIN_KEY_VARIABLE}]",
    )
    return [server_flags(own, again=again), orders]


def run_order(
    program: str,
    parse: Callable[[OwnServer], argparse.Namespace],
    act: Callable[[argparse.Namespace, str], str | None],
) -> int:
    """Run a command and return its exit code: 1 with one line for what went wrong, 2 for what was
    said wrong.

    Args:
        act: does what the options say, with the key; returns what went wrong, or None. May raise
            httpx.HTTPError.
    """
    try:
        own = checked(program)
        options = parse(own)
        key = options.admin_key or own.admin_key(options.url)
        key = key or options.key or own.api_key(options.url)
    except SettingsError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    problem: str | None
    try:
        problem = act(options, key)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has had enough. What is still to be written at the exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except httpx.HTTPStatusError as error:
        problem = refusal(error.response)
    except httpx.ConnectError:
        problem = f"no server answers at {options.url}; name another with --url"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        problem = f"the gateway at {options.url} does not answer as it should: {error}"
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def refusal(answer: httpx.Response) -> str:
    """Return the gateway's own words, and what to do where only this command knows it."""
    if answer.status_code == 401:
        return (
            "The gateway asks for a key: give it with --admin-key or --key, "
            f"or set {ADMIN_KEY_VARIABLE} or OPENAI_API_KEY."
        )
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(answer.json()["detail"])
    return f"{answer.url} answered {answer.status_code}: no gateway of this project?"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the rows, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())

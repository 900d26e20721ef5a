"""A host that is as a test says, and does nothing of its own: it only hears its orders."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from shared.messages import Catalogue, CatalogueEntry, Load
from worker.host.session import HostSession
from worker.settings import Settings

GIB = 2**30
BUDGET = 16 * GIB

ENTRIES = (
    CatalogueEntry("qwen", "loaded", 4, 8, aliases=["gpt-4o"], pinned=True, idle_s=130.0),
    CatalogueEntry("gemma", "loading", 4, 8, fraction=0.35, memory_bytes=3 * GIB),
    CatalogueEntry("pixtral", "downloading", 4, 8, fraction=0.12),
    CatalogueEntry("broken", "failed", 4, 8, error="Its files are cut off.", retry_s=30.0),
    CatalogueEntry("tiny", "unloaded", 4, 8, memory_bytes=GIB),
    CatalogueEntry("medium", "unloaded", 4, 8, memory_bytes=8 * GIB, room="idle"),
    CatalogueEntry("large", "unloaded", 4, 8, memory_bytes=12 * GIB, room="pinned"),
    CatalogueEntry("huge", "unloaded", 4, 8, memory_bytes=40 * GIB, room="never"),
    CatalogueEntry("mlx-community/Qwen3-VL-4B", "unloaded", 4, 8, memory_bytes=3 * GIB),
)
LOADED: dict[str, Any] = {"memory_bytes": 6 * GIB, "context_tokens": 32768, "vision": True}
"""What is known of `qwen`, since it is loaded."""


class ToldHost:
    """`orders`: what it was told, as `load tiny`."""

    def __init__(self, endpoint: str) -> None:
        self.orders: list[str] = []
        self.entries = {entry.name: entry for entry in ENTRIES}
        self.say("qwen", **LOADED)
        self._session = HostSession(Settings(gateway=(endpoint,)))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def say(self, model: str, **fields: Any) -> None:
        """Be otherwise from now on."""
        self.entries[model] = msgspec.structs.replace(self.entries[model], **fields)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        told: Catalogue | None = None
        while not self._stopped.is_set():
            self._session.wait()
            now = time.monotonic()
            for order in self._session.orders(now):
                action = "load" if isinstance(order, Load) else "unload"
                self.orders.append(f"{action} {order.model}")
            before, told = told, self._catalogue()
            self._session.tell(self._catalogue, now, changed=told != before)
        self._session.leave(msgspec.structs.replace(self._catalogue(), leaving=True))

    def _catalogue(self) -> Catalogue:
        entries = list(self.entries.values())
        there = [entry for entry in entries if entry.status in ("loaded", "loading")]
        return Catalogue(
            worker="mac-1",
            instance="told",
            models=entries,
            memory_budget_bytes=BUDGET,
            memory_used_bytes=sum(entry.memory_bytes for entry in there) + GIB,
            host="mac-1.local",
        )


@contextlib.contextmanager
def told_host(endpoint: str) -> Iterator[ToldHost]:
    host = ToldHost(endpoint)
    try:
        yield host
    finally:
        host.stop()

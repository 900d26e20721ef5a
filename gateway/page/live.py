"""The live figures: sampled once a second by one task, however many pages look at them.

A listener that reads slowly skips samples; none of them pile up for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.errors import ApiError, QueueFull
from gateway.status import ServedModel, Status

log = logging.getLogger(__name__)

SAMPLE_EVERY_S = 1.0
HISTORY_SAMPLES = 300
MOST_LISTENERS = 32
RETRY_S = 5.0


class NoFigures(ApiError):
    """The last sample has failed: what was there before it is not how things are."""

    def __init__(self) -> None:
        super().__init__("The figures cannot be had at the moment; the gateway's log says why.")


class LiveFeed:
    """Samples `status` while `run` runs, and hands the samples to listeners."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._points: deque[dict[str, float]] = deque(maxlen=HISTORY_SAMPLES)
        self._tokens: dict[tuple[str, int], int] = {}
        self._sampled_at = 0.0
        self._listeners = 0
        self._latest = b""
        self._failing = False
        self._news = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                self.sample(time.monotonic())
                self._failing = False
            except Exception:
                # A boundary: one sample is missing, and the next may be there. Told once, not
                # every second.
                if not self._failing:
                    log.exception("the figures of the page could not be sampled")
                self._failing = True
            self._wake()
            await asyncio.sleep(SAMPLE_EVERY_S)

    def sample(self, now: float) -> None:
        """Take one point of the plots; the full picture is only drawn when somebody looks."""
        stats = self._status.queue_stats()
        queue, workers = stats["queue_stats"], stats.get("workers", [])
        rates = self._rates(workers, now)
        point = {
            "at": round(time.time(), 2),
            "waiting": queue.get("queue_size", 0),
            "active": queue.get("active_requests", 0),
            "slots": queue.get("max_concurrency", 0),
            "rate": round(sum(rates), 1),
        }
        self._points.append(point)
        if self._listeners:
            for worker, rate in zip(workers, rates, strict=True):
                worker["tokens_per_second"] = round(rate, 1)
            self._latest = _event("sample", {"point": point, **self._picture(stats)})

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hold one of the listeners' places.

        Raises:
            QueueFull: all are taken.
        """
        if self._listeners >= MOST_LISTENERS:
            raise QueueFull(retry_after_s=RETRY_S)
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    def history(self) -> bytes:
        """The event that opens a stream: the plots' past and the present. Raises NoFigures."""
        self._check()
        picture = self._picture(self._status.queue_stats())
        return _event("history", {"points": list(self._points), **picture})

    async def next_sample(self) -> bytes:
        """Wait for the next sample and return its event. Raises NoFigures."""
        await self._news.wait()
        self._check()
        return self._latest

    def _check(self) -> None:
        if self._failing:
            raise NoFigures

    def _picture(self, stats: dict[str, Any]) -> dict[str, Any]:
        readiness = self._status.readiness()
        return {
            "ready": {
                "ready": readiness.ready,
                "reason": readiness.reason,
                "loaded_fraction": readiness.loaded_fraction,
            },
            "models": [_model(model) for model in self._status.models()],
            "recent": self._status.recent_requests(),
            **stats,
        }

    def _rates(self, workers: list[dict[str, Any]], now: float) -> list[float]:
        """Tokens per second of each worker since the last sample."""
        seconds = now - self._sampled_at
        counts = {
            (worker["id"], worker.get("pid", 0)): worker.get("tokens", 0) for worker in workers
        }
        rates = [
            max(0, count - self._tokens.get(name, count)) / seconds if seconds > 0 else 0.0
            for name, count in counts.items()
        ]
        by_name = dict(zip(counts, rates, strict=True))
        self._tokens, self._sampled_at = counts, now
        return [by_name[worker["id"], worker.get("pid", 0)] for worker in workers]


def _model(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "vision": model.vision,
        "context": model.context_tokens,
        "status": model.status,
        "draining": model.draining,
        "done_bytes": model.done_bytes,
        "total_bytes": model.total_bytes,
        "fraction": model.fraction,
        "error": model.error,
        "memory_bytes": model.memory_bytes,
        "pinned": model.pinned,
        "idle_s": model.idle_s,
        "aliases": list(model.aliases),
        "hosts": list(model.hosts),
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()

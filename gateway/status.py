"""What the gateway tells about itself: the seam between dispatch and the status routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.messages import WorkerAction


@dataclass(frozen=True)
class ServedModel:
    """One id of `GET /v1/models`; `created` is a Unix time in seconds.

    `proven` is what was tried with the model when it was loaded, and whether its answers were right
    at all its workers.
    """

    id: str
    created: int
    context_tokens: int | None
    vision: bool
    proven: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Readiness:
    """`ready` when a live worker can take requests for at least one model.

    `code` and `reason` say what is missing otherwise: `no_worker` or `loading`.
    """

    ready: bool
    code: str = ""
    reason: str = ""
    loaded_fraction: float | None = None
    workers: list[dict[str, Any]] = field(default_factory=list)


class Status(Protocol):
    def models(self) -> list[ServedModel]:
        """Return every id that a request may name now, canonical ids first."""

    def readiness(self) -> Readiness: ...

    def queue_stats(self) -> dict[str, Any]:
        """Return the body of `GET /v1/queue/stats`."""

    def recent_requests(self) -> list[dict[str, Any]]:
        """Return the latest requests that have ended, newest first, for the page."""

    def order(self, worker: str, action: WorkerAction) -> bool:
        """Pass an operator's order on; False when no such worker is connected."""

    def metrics_text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""

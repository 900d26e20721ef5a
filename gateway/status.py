"""What the gateway tells about itself: the seam between dispatch and the status routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gateway.errors import ApiError
from shared.messages import ModelStatus, WorkerAction

ModelAction = Literal["load", "unload"]


@dataclass(frozen=True)
class ServedModel:
    """One id of `GET /v1/models`; `created` is a Unix time in seconds.

    `proven` is what was tried with the model when it was loaded, and whether its answers were right
    at all its workers. What only a loaded model knows is None until then.
    """

    id: str
    created: int
    context_tokens: int | None
    vision: bool | None
    proven: Mapping[str, bool] = field(default_factory=dict)
    status: ModelStatus = "loaded"
    draining: bool = False
    """It is loaded, and takes no more requests."""
    fraction: float = 1.0
    """How much of it is downloaded or loaded, 0 to 1."""
    done_bytes: int = 0
    """While it is downloaded: of all its files, that are here, ..."""
    total_bytes: int = 0
    """... of so many; 0: not known."""
    error: str = ""
    """Why loading it has failed."""
    memory_bytes: int | None = None
    """What it takes, caches included."""
    pinned: bool = False
    """It leaves only by order; a worker that has no other model keeps it for good."""
    idle_s: float | None = None
    """Since its last job ended; None: it has one, or nobody counts."""
    workers: Sequence[str] = ()
    """Names of the workers that have it ready."""
    aliases: Sequence[str] = ()
    hosts: Sequence[str] = ()
    """Names of the workers that load it when it is asked for."""


@dataclass(frozen=True)
class Readiness:
    """`ready` when at least one model can be asked for: a live worker has it, or a host loads it
    when it is asked.

    `code` and `reason` say what is missing otherwise: `no_worker` or `loading`.
    """

    ready: bool
    code: str = ""
    reason: str = ""
    loaded_fraction: float | None = None
    workers: list[dict[str, Any]] = field(default_factory=list)


class Status(Protocol):
    def models(self) -> list[ServedModel]:
        """Return every id that a request may name, or soon may, canonical ids first."""

    def model(self, name: str) -> ServedModel | None:
        """Return the one of that id."""

    def order_model(self, name: str, action: ModelAction) -> None:
        """Pass an operator's order on.

        Raises:
            NotFound: there is no such model.
            InvalidRequest: it cannot be unloaded, because its worker has no other.
            ModelTooLarge, NoMemory, NoWorker: why it is not loaded.
        """

    def is_pending(self, name: str, action: ModelAction) -> bool:
        """Whether such an order is neither fulfilled nor given up."""

    def load_failure(self, name: str) -> ApiError | None:
        """Why an order to load it was given up; None: it was not."""

    def readiness(self) -> Readiness: ...

    def queue_stats(self) -> dict[str, Any]:
        """Return the body of `GET /v1/queue/stats`."""

    def recent_requests(self) -> list[dict[str, Any]]:
        """Return the latest requests that have ended, newest first, for the page."""

    def order(self, worker: str, action: WorkerAction) -> bool:
        """Pass an operator's order on; False when no such worker is connected."""

    def metrics_text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""

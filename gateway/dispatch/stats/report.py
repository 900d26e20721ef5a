"""What dispatch tells about itself: models, readiness, the queue, metrics (`gateway.status`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec

from gateway.dispatch.core.acts import OrderModel
from gateway.dispatch.core.catalogues.demand import on_the_way, refused
from gateway.dispatch.core.sessions import Session
from gateway.dispatch.core.view import View
from gateway.dispatch.stats.models import described_host, served_models
from gateway.dispatch.stats.statistics import Statistics
from gateway.errors import ApiError
from gateway.status import ModelAction, Readiness, ServedModel
from shared.messages import WorkerAction

SHOWN_REQUESTS = 30


class Report:
    """Implements `gateway.status.Status` from the core's own records.

    Args:
        order: passes an operator's order on; False when no such worker is connected.
        order_model: the same for a model; raises as `Status.order_model` does.
    """

    def __init__(
        self,
        core: View,
        statistics: Statistics,
        order: Callable[[str, WorkerAction], bool],
        order_model: Callable[[OrderModel], None],
    ) -> None:
        self._core = core
        self._statistics = statistics
        self._order = order
        self._order_model = order_model
        self._started = int(time.time())

    def models(self) -> list[ServedModel]:
        return served_models(self._core, self._started)

    def model(self, name: str) -> ServedModel | None:
        return next((model for model in self.models() if model.id == name), None)

    def order_model(self, name: str, action: ModelAction) -> None:
        self._order_model(OrderModel(name, action))

    def is_pending(self, name: str, action: ModelAction) -> bool:
        return self._core.is_pending(OrderModel(name, action))

    def load_failure(self, name: str) -> ApiError | None:
        return self._core.load_failure(name)

    def readiness(self) -> Readiness:
        workers = self.workers()
        if self._can_be_asked():
            return Readiness(ready=True, workers=workers)
        missing = self._core.not_served()
        coming = [model for model in self.models() if model.status in ("downloading", "loading")]
        fraction = max((model.fraction for model in coming), default=None)
        return Readiness(
            ready=False,
            code=missing.code,
            reason=missing.message,
            loaded_fraction=fraction,
            workers=workers,
        )

    def _can_be_asked(self) -> bool:
        """Whether some model is loaded, or would be for who asks."""
        if any(session.state == "ready" for session in self._core.sessions.values()):
            return True
        here = [host for host in self._core.hosts.values() if host.here]
        entries = [entry for host in here for entry in host.on_demand]
        return any(not on_the_way(entry) and not refused(entry) for entry in entries)

    def queue_stats(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "queue_stats": {
                "running": True,
                "queue_size": self._core.waiting,
                "max_queue_size": self._core.queue_size,
                "active_requests": self._core.active,
                "max_concurrency": self._slots(),
            },
            "metrics": self._statistics.report(),
            "workers": self.workers(),
            "hosts": [described_host(host) for host in self._core.hosts.values()],
        }

    def recent_requests(self) -> list[dict[str, Any]]:
        latest = islice(reversed(self._statistics.recent), SHOWN_REQUESTS)
        return [msgspec.structs.asdict(line) for line in latest]

    def order(self, worker: str, action: WorkerAction) -> bool:
        return self._order(worker, action)

    def metrics_text(self) -> bytes:
        return self._statistics.metrics.render(
            queue_length=self._core.waiting,
            active=self._core.active,
            slots=self._own_slots(),
            token_gaps=self._core.token_gaps,
            dropped={**self._core.dropped, **self._statistics.dropped},
            sessions=self._core.sessions.values(),
            hosts=self._core.hosts.values(),
        )

    def workers(self) -> list[dict[str, Any]]:
        live = [_described(session) for session in self._core.sessions.values()]
        away = [
            {"id": hello.worker, "model": hello.models[0], "state": "restarting"}
            for hello in self._core.on_lease()
        ]
        return live + away

    def _own_slots(self) -> float:
        """This gateway's share of those slots: what all gateways say of a worker adds up to it."""
        return sum(
            session.hello.slots / (session.heartbeat.gateways if session.heartbeat else 1)
            for session in self._core.sessions.values()
            if session.state == "ready"
        )

    def _slots(self) -> int:
        return sum(s.hello.slots for s in self._core.sessions.values() if s.state == "ready")


def _described(session: Session) -> dict[str, Any]:
    hello, beat = session.hello, session.heartbeat
    described: dict[str, Any] = {
        "id": session.name,
        "model": hello.models[0],
        "models": hello.models,
        "state": session.state,
        "host": hello.host,
        "pid": hello.pid,
        "device": hello.device,
        "slots": hello.slots,
        "stream_slots": hello.stream_slots,
        "active": len(session.outstanding),
        "finished": session.finished,
        "tokens": session.tokens,
    }
    if beat is not None:
        described |= {
            "loaded_fraction": beat.loaded_fraction,
            "free_slots": beat.free_slots,
            "free_stream_slots": beat.free_stream_slots,
            "steps": beat.steps,
            "last_step_age_s": round(beat.last_step_age_s, 3),
            "memory_bytes": beat.memory_bytes,
            "gauges": beat.gauges,
        }
    return described

"""Prometheus instruments. Names and units follow Prometheus' conventions: base units, `_total`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from gateway.dispatch.jobs import JobRecord
    from gateway.dispatch.workers import Session

SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

WORKER_GAUGES = {
    "memory_bytes": "Memory the worker's model and caches hold.",
    "active_jobs": "Jobs the worker holds, whoever sent them.",
    "slots": "Whole-answer slots the worker offers.",
    "stream_slots": "Stream slots the worker offers.",
    "last_step_age_seconds": "Seconds since the engine's last step.",
    "tokens_per_second": "Tokens the worker generated in the last second.",
    "ready": "1 when the worker takes jobs.",
}


class Metrics:
    """One registry for each gateway object, so that tests can make as many as they like."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter(
            "requests", "Requests by route, kind and outcome.", "route", "kind", "outcome"
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens processed.")
        self._completion_tokens = self._counter("completion_tokens", "Tokens generated.")
        self._cached_tokens = self._counter("cached_tokens", "Prompt tokens found in a cache.")
        self._migrations = self._counter("migrations", "Jobs moved on to another worker.")
        self._dropped = Gauge(
            "gateway_worker_port_dropped_messages",
            "Messages on the worker port that were dropped.",
            ["reason"],
            registry=self.registry,
        )
        self._queue_wait = self._histogram(
            "queue_wait", "From arrival to a slot.", SHORT_S + LONG_S
        )
        self._preparation = self._histogram("preparation", "Fetching and checking images.", SHORT_S)
        self._prefill = self._histogram("prefill", "Prefill, as the worker measured it.", LONG_S)
        self._vision = self._histogram("vision_encoding", "Vision encoding on the worker.", LONG_S)
        self._first_token = self._histogram(
            "time_to_first_token", "Arrival to first token.", LONG_S
        )
        self._inter_token = self._histogram(
            "inter_token_latency", "Mean gap between the tokens of one request.", SHORT_S
        )
        self._duration = self._histogram("request_duration", "Arrival to end.", LONG_S, "kind")
        self._queue = self._gauge("queue_length", "Requests waiting for a slot.")
        self._active = self._gauge("active_requests", "Requests that hold a slot.")
        self._slots = self._gauge("slots", "Whole-answer slots of all live workers.")
        self.loop_lag = self._gauge("event_loop_lag_seconds", "How late the last tick came.")
        self._workers = {
            name: Gauge(f"worker_{name}", text, ["worker", "model"], registry=self.registry)
            for name, text in WORKER_GAUGES.items()
        }

    def refused(self, route: str, kind: str) -> None:
        self._requests.labels(route, kind, "refused").inc()

    def ended(self, record: JobRecord, completion_tokens: int) -> None:
        at = record.at
        self._requests.labels(record.route, record.kind, record.outcome or "failed").inc()
        self._completion_tokens.inc(completion_tokens)
        self._migrations.inc(record.migrations)
        if at.slot_at is not None:
            self._queue_wait.observe(at.slot_at - at.arrived_at)
        if at.submitted_at is not None:
            self._preparation.observe(at.submitted_at - at.arrived_at)
        if at.first_token_at is not None:
            self._first_token.observe(at.first_token_at - at.arrived_at)
            gaps = record.completion_tokens - 1
            if gaps > 0 and at.last_token_at is not None:
                self._inter_token.observe((at.last_token_at - at.first_token_at) / gaps)
        if at.over_at is not None:
            self._duration.labels(record.kind).observe(at.over_at - at.arrived_at)
        if record.usage is not None:
            self._prompt_tokens.inc(record.usage.prompt_tokens)
            self._cached_tokens.inc(record.usage.cached_tokens)
        if record.timings is not None:
            self._prefill.observe(record.timings.prefill_s)
            if record.timings.vision_s:
                self._vision.observe(record.timings.vision_s)

    def render(
        self,
        *,
        queue_length: int,
        active: int,
        slots: int,
        dropped: dict[str, int],
        sessions: Iterable[Session],
    ) -> bytes:
        """Return everything in Prometheus' text format."""
        self._queue.set(queue_length)
        self._active.set(active)
        self._slots.set(slots)
        for reason, count in dropped.items():
            self._dropped.labels(reason).set(count)
        for gauge in self._workers.values():
            gauge.clear()
        for session in sessions:
            self._show(session)
        return generate_latest(self.registry)

    def _show(self, session: Session) -> None:
        beat = session.heartbeat
        figures = {
            "ready": float(session.state == "ready"),
            "slots": session.hello.slots,
            "stream_slots": session.hello.stream_slots,
        }
        if beat is not None:
            figures |= {
                "memory_bytes": beat.memory_bytes,
                "active_jobs": beat.active,
                "last_step_age_seconds": beat.last_step_age_s,
                "tokens_per_second": beat.gauges.get("tokens_per_second", 0.0),
            }
        for name, value in figures.items():
            self._workers[name].labels(session.name, session.pool).set(value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"gateway_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"gateway_{name}", text, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"gateway_{name}_seconds",
            text,
            labels,
            buckets=sorted(set(buckets)),
            registry=self.registry,
        )

"""What Prometheus is told. Names and units follow its conventions: base units, `_total`."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.dispatch.core.histograms import STEP_S, WAIT_S, Histogram
from shared.logs import lost_lines

if TYPE_CHECKING:
    from gateway.dispatch.core.catalogues.hosts import Host
    from gateway.dispatch.core.jobs import JobRecord
    from gateway.dispatch.core.sessions import Session

HISTOGRAMS = {
    "queue_wait": ("From arrival to a slot.", WAIT_S),
    "image_fetch": ("Fetching an image that was named by its address.", STEP_S),
    "image_decode": ("Decoding and checking an image, waiting for a thread included.", STEP_S),
    "prefill": ("Prefill, as the worker measured it.", WAIT_S),
    "vision_encoding": ("Vision encoding, as the worker measured it.", WAIT_S),
    "time_to_first_token": ("Arrival to first token.", WAIT_S),
}

COUNTERS = {
    "prompt_tokens": "Prompt tokens processed.",
    "completion_tokens": "Tokens generated.",
    "cached_tokens": "Prompt tokens found in a cache.",
    "drafted_tokens": "Tokens that were tried because they were likely to come next.",
    "accepted_draft_tokens": "Of these: those that came.",
    "rejected_draft_tokens": "Of these: those that did not come.",
    "migrations": "Jobs moved on to another worker.",
}

WORKER_GAUGES = {
    "memory_bytes": "Memory the worker's model and caches hold.",
    "active_jobs": "Jobs the worker holds, whoever sent them.",
    "slots": "Non-streaming slots the worker offers.",
    "stream_slots": "Stream slots the worker offers.",
    "last_step_age_seconds": "Seconds since the engine's last step.",
    "tokens_per_second": "Tokens the worker generated in the last second.",
    "ready": "1 when the worker takes jobs.",
}

HOST_GAUGES = {
    "memory_budget_bytes": "Memory that all models of the host together may take.",
    "memory_used_bytes": "Memory that its loaded and loading models take.",
    "models_listed": "Models in the host's catalogue.",
    "models_loaded": "Models that it has loaded.",
    "models_failed": "Models that could not be loaded and are not tried again yet.",
}

LAGS_KEPT = 300
"""Ticks of the event loop whose lag is remembered: 15 s, a usual interval of scraping."""


class Metrics:
    """Counts as things happen, and puts it into Prometheus' words when asked."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._histograms = {name: Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}
        self._durations: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(WAIT_S))
        self._lags_s: deque[float] = deque([0.0], maxlen=LAGS_KEPT)

    def refused(self, route: str, kind: str) -> None:
        self._requests[route, kind, "refused"] += 1

    def image_fetched(self, seconds: float) -> None:
        self._histograms["image_fetch"].observe(seconds)

    def image_decoded(self, seconds: float) -> None:
        self._histograms["image_decode"].observe(seconds)

    def event_loop_lagged(self, seconds: float) -> None:
        self._lags_s.append(seconds)

    def ended(self, record: JobRecord, completion_tokens: int) -> None:
        at, histograms, counts = record.at, self._histograms, self._counts
        self._requests[record.route, record.request_type, record.outcome or "failed"] += 1
        counts["completion_tokens"] += completion_tokens
        counts["migrations"] += record.migrations
        if at.slot_at is not None:
            histograms["queue_wait"].observe(at.slot_at - at.arrived_at)
        if at.first_token_at is not None:
            histograms["time_to_first_token"].observe(at.first_token_at - at.arrived_at)
        if at.over_at is not None:
            self._durations[record.request_type].observe(at.over_at - at.arrived_at)
        if record.usage is not None:
            counts["prompt_tokens"] += record.usage.prompt_tokens
            counts["cached_tokens"] += record.usage.cached_tokens
            drafted, accepted = record.usage.drafted_tokens, record.usage.accepted_draft_tokens
            counts["drafted_tokens"] += drafted
            counts["accepted_draft_tokens"] += accepted
            counts["rejected_draft_tokens"] += max(0, drafted - accepted)
        if record.timings is not None:
            histograms["prefill"].observe(record.timings.prefill_s)
            if record.timings.vision_s:
                histograms["vision_encoding"].observe(record.timings.vision_s)

    def render(
        self,
        *,
        queue_length: int,
        active: int,
        slots: float,
        token_gaps: Histogram,
        dropped: Mapping[str, int],
        sessions: Iterable[Session],
        hosts: Iterable[Host],
    ) -> bytes:
        """Return everything in Prometheus' text format."""
        lag_s = max(self._lags_s)
        families = [
            *self._counted(dropped),
            *self._measured(),
            _inter_token_latency(token_gaps),
            _gauge("queue_length", "Requests waiting for a slot.", queue_length),
            _gauge("active_requests", "Requests that hold a slot.", active),
            _gauge(
                "slots",
                "Non-streaming slots of all live workers, shared among gateways.",
                slots,
            ),
            _gauge("event_loop_lag_seconds", "The latest tick of the last 15 s.", lag_s),
            *_of_workers(sessions),
            *_of_hosts(hosts),
        ]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(families))
        return generate_latest(registry)

    def _counted(self, dropped: Mapping[str, int]) -> Iterator[Metric]:
        words = "Requests that are over, by route, kind and outcome."
        requests = CounterMetricFamily(
            "gateway_requests", words, labels=["route", "kind", "outcome"]
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        for name, words in COUNTERS.items():
            yield CounterMetricFamily(f"gateway_{name}", words, value=self._counts[name])
        words = "Messages on the worker port that were dropped."
        family = CounterMetricFamily(
            "gateway_worker_port_dropped_messages", words, labels=["reason"]
        )
        for reason, count in dropped.items():
            family.add_metric([reason], count)
        yield family

        words = "Log lines that nobody read in time."
        yield CounterMetricFamily("gateway_lost_log_lines", words, value=lost_lines())

    def _measured(self) -> Iterator[Metric]:
        for name, histogram in self._histograms.items():
            family = HistogramMetricFamily(f"gateway_{name}_seconds", HISTOGRAMS[name][0])
            family.add_metric([], *histogram.cumulative())
            yield family
        words = "Arrival to end."
        family = HistogramMetricFamily("gateway_request_duration_seconds", words, labels=["kind"])
        for kind, histogram in self._durations.items():
            family.add_metric([kind], *histogram.cumulative())
        yield family


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gateway_{name}", words, value=value)


def _inter_token_latency(gaps: Histogram) -> Metric:
    words = "Gaps between the tokens of a request as they came from its worker."
    family = HistogramMetricFamily("gateway_inter_token_latency_seconds", words)
    family.add_metric([], *gaps.cumulative())
    return family


def _of_workers(sessions: Iterable[Session]) -> Iterable[Metric]:
    families = {
        name: GaugeMetricFamily(f"worker_{name}", words, labels=["worker", "model"])
        for name, words in WORKER_GAUGES.items()
    }
    proven = GaugeMetricFamily(
        "worker_proven",
        "1 where the model's answers were right when this was tried at the start; 0: it is off.",
        labels=["worker", "model", "ability"],
    )
    # Two workers may have one name; a series must not come twice.
    shown = {(session.name, session.pool): session for session in sessions}
    for labels, session in shown.items():
        for name, value in _figures(session).items():
            families[name].add_metric(labels, value)
        for ability, held in session.hello.proven.items():
            proven.add_metric([*labels, ability], held)
    return [*families.values(), proven]


def _of_hosts(hosts: Iterable[Host]) -> Iterable[Metric]:
    families = {
        name: GaugeMetricFamily(f"host_{name}", words, labels=["host"])
        for name, words in HOST_GAUGES.items()
    }
    # Two hosts may have one name; a series must not come twice.
    for name, host in {host.name: host for host in hosts if host.here}.items():
        catalogue = host.catalogue
        statuses = Counter(entry.status for entry in catalogue.models)
        families["memory_budget_bytes"].add_metric([name], catalogue.memory_budget_bytes)
        families["memory_used_bytes"].add_metric([name], catalogue.memory_used_bytes)
        families["models_listed"].add_metric([name], len(catalogue.models))
        families["models_loaded"].add_metric([name], statuses["loaded"])
        families["models_failed"].add_metric([name], statuses["failed"])
    return families.values()


def _figures(session: Session) -> dict[str, float]:
    figures: dict[str, float] = {
        "ready": session.state == "ready",
        "slots": session.hello.slots,
        "stream_slots": session.hello.stream_slots,
    }
    beat = session.heartbeat
    if beat is not None:
        figures |= {
            "memory_bytes": beat.memory_bytes,
            "active_jobs": beat.active,
            "last_step_age_seconds": beat.last_step_age_s,
            "tokens_per_second": beat.gauges.get("tokens_per_second", 0.0),
        }
    return figures

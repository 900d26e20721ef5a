"""`/metrics`: what Prometheus reads, parsed by its own client."""

from __future__ import annotations

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from gateway.dispatch.core.histograms import STEP_S, Histogram
from gateway.dispatch.stats.metrics import Metrics
from gateway.dispatch.stats.report import Report
from gateway.dispatch.stats.statistics import Statistics
from scripts.simulated_worker import SimulatedWorker
from tests.gateway.dispatch.core.simulated_host import LOADING_TAKES_S, Model, SimulatedHost
from tests.gateway.dispatch.core.simulation import Simulation

Labels = frozenset[tuple[str, str]]


def samples(metrics: Metrics, **figures: object) -> dict[tuple[str, Labels], float]:
    """All that is told, by name and labels."""
    given = {"queue_length": 0, "active": 0, "slots": 0, "token_gaps": Histogram(STEP_S)}
    given |= {"dropped": {}, "sessions": [], "hosts": []}
    return told_by(metrics.render(**{**given, **figures}))  # type: ignore[arg-type]


def told_by(text: bytes) -> dict[tuple[str, Labels], float]:
    told: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in told, f"told twice: {key}"
            told[key] = sample.value
    return told


def of(**labels: str) -> Labels:
    return frozenset(labels.items())


def test_requests_are_counted_by_route_kind_and_outcome() -> None:
    simulation, statistics = Simulation(), Statistics()
    worker = simulation.connect(SimulatedWorker("a", 2, 2))
    simulation.request(stream=True)
    simulation.cancel(simulation.request())
    for _ in range(8):
        simulation.step(worker)
    for record in simulation.ended:
        statistics.ended(record)
    route = simulation.ended[0].route
    statistics.refused(route, "text")
    statistics.refused(route, "text")
    told = samples(statistics.metrics)
    name = "gateway_requests_total"
    assert told[name, of(route=route, kind="text_stream", outcome="finished")] == 1
    assert told[name, of(route=route, kind="text", outcome="cancelled")] == 1
    assert told[name, of(route=route, kind="text", outcome="refused")] == 2
    assert told["gateway_completion_tokens_total", of()] == 8
    assert told["gateway_request_duration_seconds_count", of(kind="text")] == 1


def test_a_stall_in_one_answer_shows_among_the_gaps_between_tokens() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a", 2, 2))
    simulation.request(stream=True)
    for pause_s in (0.004, 0.004, 4.0, 0.004):
        simulation.step(worker)
        simulation.pass_time(pause_s)
    told = samples(Metrics(), token_gaps=simulation.core.view.token_gaps)
    name = "gateway_inter_token_latency_seconds"
    assert told[f"{name}_count", of()] == 3
    assert told[f"{name}_bucket", of(le="0.005")] == 2
    assert told[f"{name}_bucket", of(le="2.5")] == 2
    assert told[f"{name}_bucket", of(le="5.0")] == 3


def test_fetching_and_decoding_an_image_are_told_apart() -> None:
    metrics = Metrics()
    metrics.image_fetched(0.3)
    metrics.image_fetched(20.0)
    metrics.image_decoded(0.001)
    told = samples(metrics)
    assert told["gateway_image_fetch_seconds_count", of()] == 2
    assert told["gateway_image_fetch_seconds_sum", of()] == 20.3
    assert told["gateway_image_fetch_seconds_bucket", of(le="0.25")] == 0
    assert told["gateway_image_fetch_seconds_bucket", of(le="0.5")] == 1
    assert told["gateway_image_fetch_seconds_bucket", of(le="10.0")] == 1
    assert told["gateway_image_fetch_seconds_bucket", of(le="+Inf")] == 2
    assert told["gateway_image_decode_seconds_bucket", of(le="0.001")] == 1
    buckets = [name for name, _ in told if name == "gateway_image_decode_seconds_bucket"]
    assert len(buckets) == len(STEP_S) + 1


def report_of(simulation: Simulation) -> Report:
    return Report(
        simulation.core.view, Statistics(), lambda worker, action: False, lambda order: None
    )


def test_hosts_tell_their_memory_and_how_many_models_they_have() -> None:
    simulation = Simulation()
    models = Model("a", 4), Model("b", 4, retry_at=simulation.now + 5), Model("c", 4)
    SimulatedHost(simulation, "mac", 10, *models)
    simulation.request(model="a")
    simulation.pass_time(LOADING_TAKES_S)
    told = told_by(report_of(simulation).metrics_text())
    assert told["host_memory_budget_bytes", of(host="mac")] == 10
    assert told["host_memory_used_bytes", of(host="mac")] == 4
    assert told["host_models_listed", of(host="mac")] == 3
    assert told["host_models_loaded", of(host="mac")] == 1
    assert told["host_models_failed", of(host="mac")] == 1


def test_drafted_tokens_are_counted_with_what_became_of_them() -> None:
    simulation, metrics = Simulation(), Metrics()
    worker = simulation.connect(SimulatedWorker("a", 2, 2))
    simulation.request()
    for _ in range(8):
        simulation.step(worker)
    (record,) = simulation.ended
    assert record.usage is not None
    record.usage = replace(record.usage, drafted_tokens=7, accepted_draft_tokens=4)
    metrics.ended(record, completion_tokens=8)
    told = samples(metrics)
    names = ("drafted_tokens", "accepted_draft_tokens", "rejected_draft_tokens")
    assert [told[f"gateway_{name}_total", of()] for name in names] == [7, 4, 3]


def test_what_has_not_happened_is_zero_and_not_missing() -> None:
    simulation = Simulation()
    report = report_of(simulation)
    told = told_by(report.metrics_text())
    for reason in ("version", "malformed", "failed", "unknown_peer", "bad_hello"):
        assert told["gateway_worker_port_dropped_messages_total", of(reason=reason)] == 0
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "migrations"):
        assert told[f"gateway_{name}_total", of()] == 0


def test_two_workers_of_one_name_are_one_series() -> None:
    simulation = Simulation()
    for instance in ("one", "other"):
        worker = SimulatedWorker("a", slots=2)
        simulation.connect(worker, replace(worker.hello(), instance=instance))
    told = samples(Metrics(), sessions=simulation.core.view.sessions.values())
    assert told["worker_slots", of(worker="a", model="m")] == 2


def test_what_two_gateways_say_of_a_workers_slots_adds_up_to_them() -> None:
    slots = 0.0
    for _ in range(2):
        simulation = Simulation()
        worker = simulation.connect(SimulatedWorker("a", slots=3))
        simulation.say(worker, replace(worker.heartbeat(), gateways=2))
        report = report_of(simulation)
        slots += told_by(report.metrics_text())["gateway_slots", of()]
    assert slots == 3


def test_the_worst_lag_of_the_last_ticks_is_told() -> None:
    metrics = Metrics()
    for lag_s in (0.0, 0.2, 0.001):
        metrics.event_loop_lagged(lag_s)
    assert samples(metrics)["gateway_event_loop_lag_seconds", of()] == 0.2


def test_what_was_tried_with_a_model_is_told_and_holds_where_it_does_everywhere() -> None:
    simulation = Simulation()
    for name, batching in (("a", True), ("b", False)):
        worker = SimulatedWorker(name, slots=2)
        proven = {"text": True, "batching": batching}
        simulation.connect(worker, replace(worker.hello(), instance=name, proven=proven))
    told = samples(Metrics(), sessions=simulation.core.view.sessions.values())
    assert told["worker_proven", of(worker="a", model="m", ability="batching")] == 1
    assert told["worker_proven", of(worker="b", model="m", ability="batching")] == 0
    report = report_of(simulation)
    assert report.models()[0].proven == {"text": True, "batching": False}

"""The figures that `/v1/queue/stats`, the log and the page show."""

from __future__ import annotations

from gateway.dispatch.core.effects import Ended
from gateway.dispatch.stats.statistics import RECENT_REQUESTS, Statistics
from gateway.dispatch.stats.token_estimate import estimate_tokens
from scripts.simulated_worker import SimulatedWorker
from tests.gateway.dispatch.core.simulation import Simulation


def statistics_after(simulation: Simulation) -> Statistics:
    statistics = Statistics()
    for record in simulation.ended:
        assert Ended(record).record is record
        statistics.ended(record)
    return statistics


def test_a_finished_and_a_cancelled_request_are_counted_once_each() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a", 2, 2))
    simulation.request(stream=True)
    cancelled = simulation.request()
    simulation.cancel(cancelled)
    simulation.now += 2.0
    for _ in range(8):
        simulation.step(worker)
    statistics = statistics_after(simulation)
    whole = statistics.recent[-1]
    assert whole.fetch_s == 0.0 and whole.first_token_s == whole.total_s == 2.0
    report = statistics.report()
    assert report["total_requests"] == 2
    assert report["total_tokens"] == 8
    assert report["error_count"] == 0 and report["error_rate"] == 0.0
    assert report["request_types"] == {
        "vision": 0,
        "vision_stream": 0,
        "text": 1,
        "text_stream": 1,
    }
    assert report["performance"] == {
        "avg_tps": 4.0,
        "max_tps": 4.0,
        "min_tps": 4.0,
        "recent_requests": 2,
    }


def test_a_timed_out_request_is_an_error() -> None:
    simulation = Simulation()
    simulation.connect(SimulatedWorker("a"))
    simulation.request()
    simulation.pass_time(31)
    report = statistics_after(simulation).report()
    assert report["error_count"] == 1 and report["error_rate"] == 1.0


def test_the_history_is_bounded() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a"))
    for _ in range(RECENT_REQUESTS + 5):
        simulation.request()
        for _ in range(8):
            simulation.step(worker)
    statistics = statistics_after(simulation)
    assert len(statistics.recent) == RECENT_REQUESTS
    assert statistics.report()["total_requests"] == RECENT_REQUESTS + 5


def test_retry_after_follows_measured_service_times_and_the_queue() -> None:
    statistics = Statistics()
    assert statistics.retry_after_s(False, 0, 1) == 1.0
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a"))
    simulation.request()
    simulation.now += 6.0
    for _ in range(8):
        simulation.step(worker)
    statistics = statistics_after(simulation)
    assert statistics.retry_after_s(False, 0, 1) == 6.0
    assert statistics.retry_after_s(False, 3, 2) == 12.0


def test_the_token_estimate_stands_in_only_where_there_is_text() -> None:
    assert estimate_tokens(0, 0) == 0
    assert estimate_tokens(1, 2) == 1
    assert estimate_tokens(100, 500) == round((130 + 125) / 2)

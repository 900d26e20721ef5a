"""What is told of models that are loaded on demand."""

from __future__ import annotations

import msgspec
import pytest

from gateway.dispatch.stats.models import MOST_ALIASES
from gateway.dispatch.stats.report import Report
from gateway.dispatch.stats.statistics import Statistics
from gateway.errors import InvalidRequest, NoWorker
from gateway.status import ServedModel
from scripts.simulated_worker import SimulatedWorker
from shared.messages import Load, Unload
from tests.gateway.dispatch.core.simulated_host import LOADING_TAKES_S, Model, SimulatedHost
from tests.gateway.dispatch.core.simulation import Simulation, run


def report_of(simulation: Simulation) -> Report:
    return Report(
        simulation.core.view, Statistics(), lambda worker, action: False, lambda order: None
    )


def model(simulation: Simulation, name: str) -> ServedModel:
    found = report_of(simulation).model(name)
    assert found is not None
    return found


def test_the_whole_catalogue_is_listed_in_its_order_and_aliases_after_it() -> None:
    simulation = Simulation()
    simulation.connect(SimulatedWorker("plain"))
    SimulatedHost(simulation, "mac", 10, Model("b", 4, aliases=["x"]), Model("a", 4, pinned=True))
    SimulatedHost(simulation, "mini", 10, Model("a", 4), Model("c", 4))
    simulation.request(model="a")
    listed = report_of(simulation).models()
    assert [one.id for one in listed] == ["m", "b", "a", "c", "x"]
    assert [one.pinned for one in listed] == [False, False, True, False, False]
    assert listed[-1].aliases == listed[1].aliases == ["x"]
    assert [one.workers for one in listed[:2]] == [["plain"], []]


def test_many_aliases_are_not_listed_again_with_each_of_them() -> None:
    simulation = Simulation()
    aliases = [f"alias-{number}" for number in range(64)]
    SimulatedHost(simulation, "mac", 10, Model("a", 4, aliases=aliases))
    listed = report_of(simulation).models()
    assert [one.id for one in listed] == ["a", *aliases]
    assert [one.aliases for one in listed] == [aliases, *([alias] for alias in aliases)]


def test_workers_of_a_model_who_each_call_it_otherwise_make_no_list_without_end() -> None:
    simulation = Simulation()
    for number in range(100):
        worker = SimulatedWorker(f"w{number}")
        names = ["m", *(f"alias-{number}-{other}" for other in range(10))]
        simulation.connect(worker, msgspec.structs.replace(worker.hello(), models=names))
    assert len(report_of(simulation).models()) == 1 + MOST_ALIASES


def test_a_model_tells_what_becomes_of_it() -> None:
    simulation = Simulation()
    host = SimulatedHost(simulation, "mac", 10, Model("a", 6), Model("b", 6, broken=True))
    assert model(simulation, "a").status == "unloaded" and model(simulation, "a").fraction == 0
    simulation.request(model="a")
    assert model(simulation, "a").status == "loading"
    simulation.pass_time(LOADING_TAKES_S)
    loaded = model(simulation, "a")
    assert (loaded.status, loaded.fraction, loaded.memory_bytes) == ("loaded", 1.0, 6)
    assert loaded.workers == ["mac/a"] and loaded.idle_s is None
    run(simulation)
    for seconds in (0, 3):
        simulation.pass_time(seconds)
    assert model(simulation, "a").idle_s == 3
    simulation.request(model="b")
    for _ in range(3):
        simulation.pass_time(LOADING_TAKES_S)
    failed = model(simulation, "b")
    assert (failed.status, failed.error) == ("failed", "it is broken")
    assert model(simulation, "a").status == "unloaded"
    assert host.models["a"].engine is None


def test_a_worker_of_one_model_tells_what_becomes_of_it_too() -> None:
    simulation = Simulation()
    worker = SimulatedWorker("plain", state="loading")
    simulation.connect(worker)
    simulation.say(worker, msgspec.structs.replace(worker.heartbeat(), loaded_fraction=0.4))
    loading = model(simulation, "m")
    assert (loading.status, loading.fraction, loading.workers) == ("loading", 0.4, [])
    worker.state = "ready"
    simulation.say(worker, worker.hello())
    loaded = model(simulation, "m")
    assert (loaded.status, loaded.draining, loaded.fraction) == ("loaded", False, 1.0)
    worker.state = "draining"
    simulation.say(worker, worker.heartbeat())
    assert model(simulation, "m").status == "loaded" and model(simulation, "m").draining
    simulation.connect(SimulatedWorker("other"))
    assert not model(simulation, "m").draining


def test_a_host_of_one_model_tells_of_its_download_and_who_asks_is_told() -> None:
    simulation = Simulation()
    simulation.connect(SimulatedWorker("plain"))
    kept = Model("a", 6, aliases=["x"], pinned=True, kept=True, downloaded=(30, 120))
    host = SimulatedHost(simulation, "mac", 10, kept)
    coming = model(simulation, "a")
    assert (coming.status, coming.fraction, coming.hosts) == ("downloading", 0.25, [])
    assert (coming.done_bytes, coming.total_bytes) == (30, 120)
    for refused in ("a", "x"):
        with pytest.raises(NoWorker, match="25% done, 30 bytes of 120 bytes") as refusal:
            simulation.request(model=refused)
        assert refusal.value.code == "loading"
    kept.downloaded = (0, 0)
    simulation.pass_time(0.5)
    simulation.pass_time(LOADING_TAKES_S)
    loaded = model(simulation, "a")
    assert (loaded.status, loaded.workers, loaded.memory_bytes) == ("loaded", ["mac/a"], 6)
    simulation.request(model="a")
    with pytest.raises(InvalidRequest, match="cannot be unloaded"):
        simulation.order_model("a", "unload")
    assert not any(isinstance(heard, Load | Unload) for heard in host.heard)


def test_the_best_that_hosts_say_of_a_model_is_how_it_is() -> None:
    simulation = Simulation()
    SimulatedHost(simulation, "mac", 10, Model("a", 6, retry_at=simulation.now + 60))
    assert model(simulation, "a").status == "failed"
    SimulatedHost(simulation, "mini", 10, Model("a", 6))
    assert model(simulation, "a").status == "unloaded" and not model(simulation, "a").error


def test_a_catalogue_is_ready_when_one_of_its_models_can_be_asked_for() -> None:
    simulation = Simulation()
    assert report_of(simulation).readiness().code == "no_worker"
    broken = Model("a", 6, retry_at=simulation.now + 60)
    host = SimulatedHost(simulation, "mac", 10, broken)
    readiness = report_of(simulation).readiness()
    assert not readiness.ready and "it is broken" in readiness.reason
    broken.retry_at = 0
    host.tell()
    assert report_of(simulation).readiness().ready
    simulation.request(model="a")
    readiness = report_of(simulation).readiness()
    assert not readiness.ready and readiness.code == "loading"
    simulation.pass_time(LOADING_TAKES_S)
    assert report_of(simulation).readiness().ready


def test_hosts_tell_what_takes_their_memory() -> None:
    simulation = Simulation()
    SimulatedHost(simulation, "mac", 10, Model("a", 6), Model("b", 6))
    simulation.request(model="a")
    simulation.pass_time(LOADING_TAKES_S)
    (host,) = report_of(simulation).queue_stats()["hosts"]
    assert (host["id"], host["state"], host["listed"]) == ("mac", "connected", 2)
    assert (host["memory_used_bytes"], host["memory_budget_bytes"]) == (6, 10)
    assert [(one["id"], one["status"]) for one in host["models"]] == [("a", "loaded")]

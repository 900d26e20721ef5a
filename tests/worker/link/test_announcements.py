"""What a worker tells of itself, before and after it knows its model."""

from __future__ import annotations

import pytest

from shared import wire
from shared.messages import MAX_DIED_WITH, Hello
from worker import lost_runs
from worker.engine.interface import ModelFacts
from worker.link import announcements
from worker.link.slots import Slots
from worker.loop import Progress
from worker.settings import Settings

SETTINGS = Settings(max_concurrency=2, max_streams=3, stall_timeout=7.0)


def test_a_hello_tells_the_model_only_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(announcements.INSTANCE_VARIABLE, "i1")
    before = announcements.hello(SETTINGS, "w", "loading", Progress())
    assert (before.worker, before.instance, before.slots, before.stream_slots) == ("w", "i1", 2, 3)
    assert (before.device, before.context_tokens, before.stall_timeout_s) == ("", None, 7.0)
    assert "mlx" not in before.versions
    facts = ModelFacts(
        device="gpu",
        vision=False,
        context_tokens=100,
        versions={"mlx": "1"},
        proven={"text": True, "batching": False},
    )
    after = announcements.hello(SETTINGS, "w", "ready", Progress(facts=facts))
    assert (after.device, after.vision, after.context_tokens) == ("gpu", False, 100)
    assert after.versions["mlx"] == "1"
    assert (before.proven, after.proven) == ({}, {"text": True, "batching": False})


def test_a_hello_tells_what_its_supervisor_knows_of_earlier_deaths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(lost_runs.VARIABLE, raising=False)
    assert died_with() is None, "it has no supervisor"
    lost = lost_runs.LostRuns()
    for deaths, expected in [([], []), ([["a", "b"]], ["a", "b"]), ([[], ["c"]], ["a", "b", "c"])]:
        for runs in deaths:
            lost.died(runs)
        monkeypatch.setenv(lost_runs.VARIABLE, lost.environment()[lost_runs.VARIABLE])
        assert died_with() == expected
    lost.died([f"{number:035}" for number in range(MAX_DIED_WITH)])
    monkeypatch.setenv(lost_runs.VARIABLE, lost.environment()[lost_runs.VARIABLE])
    hello = announcements.hello(SETTINGS, "w", "loading", Progress())
    assert len(hello.died_with or []) == MAX_DIED_WITH
    assert len(wire.encode(hello)[1]) < Hello.max_body_bytes / 2
    lost.died(["more"] * (MAX_DIED_WITH + 1))
    assert lost.environment() == {}, "more than can be told"


def died_with() -> list[str] | None:
    return announcements.hello(SETTINGS, "w", "loading", Progress()).died_with


def test_a_heartbeat_names_a_gateways_own_jobs_and_counts_all() -> None:
    slots = Slots(2, 3)
    slots.take("mine", 0, stream=True)
    slots.take("anothers", 1, stream=False)
    progress = Progress(loaded_fraction=1.0, steps=9, gauges={"memory_bytes": 5.0, "x": 0.5})
    beat = announcements.heartbeat(0, 2, "ready", slots, ["c"], progress)
    assert (beat.streams, beat.jobs, beat.active) == (["mine"], [], 2)
    assert (beat.free_stream_slots, beat.free_slots) == (2, 1)
    assert (beat.steps, beat.memory_bytes, beat.gauges["x"]) == (9, 5, 0.5)
    assert (beat.gateways, beat.counting) == (2, ["c"])
    assert beat.last_step_age_s >= 0

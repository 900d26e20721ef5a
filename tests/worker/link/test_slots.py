"""Slots: as many of each kind as the settings say, each held by one job of one gateway."""

from __future__ import annotations

from worker.link.slots import Slots


def test_each_kind_has_its_own_slots() -> None:
    slots = Slots(1, 2)
    assert slots.take("a", 0, stream=True)
    assert slots.take("b", 0, stream=True)
    assert not slots.take("c", 0, stream=True)
    assert slots.take("c", 0, stream=False)
    assert (slots.free(stream=True), slots.free(stream=False), len(slots)) == (0, 0, 3)


def test_a_job_is_its_gateways_until_it_is_released() -> None:
    slots = Slots(1, 1)
    slots.take("a", 0, stream=True)
    assert not slots.take("a", 1, stream=False)  # another kind is free, and the name is taken
    assert (slots.holder("a"), slots.jobs_of(0), slots.jobs_of(1)) == (0, ["a"], [])
    slots.release("a")
    slots.release("a")  # an answer that comes late finds nothing to release
    assert (slots.holder("a"), slots.free(stream=True), len(slots)) == (None, 1, 0)
    assert slots.take("a", 1, stream=False)


def test_jobs_are_told_by_kind_and_for_each_gateway_alone() -> None:
    slots = Slots(4, 4)
    for job_id, gateway, stream in (("a", 0, True), ("b", 0, False), ("c", 1, True)):
        slots.take(job_id, gateway, stream=stream)
    assert slots.jobs_of(0) == ["a", "b"]
    assert slots.jobs_of(0, stream=True) == ["a"]
    assert slots.jobs_of(0, stream=False) == ["b"]
    assert slots.jobs_of(1) == ["c"]

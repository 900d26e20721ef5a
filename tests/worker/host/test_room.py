"""Who gets the memory: single decisions, and a host that lives through any order of wishes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.host.room import BUSY_GRACE_S, FIRST_IDLE_S, Place, decide, room_for

NOW = 1000.0


def loaded(name: str, size: int = 4, **fields: Any) -> Place:
    """A model that has been here for long, and idle for as long."""
    return Place(name, size, "in", loaded_at=100.0, **{"used_at": 200.0, **fields})


def wanted(name: str, size: int = 4, waited_s: float = 1.0) -> Place:
    return Place(name, size, wanted_since=NOW - waited_s)


def leaving(*places: Place, budget: int = 10) -> list[str]:
    return decide(places, budget, NOW).leave


def starting(*places: Place, budget: int = 10) -> list[str]:
    return decide(places, budget, NOW).start


def test_what_fits_is_started_and_nobody_leaves() -> None:
    decision = decide([wanted("a"), wanted("b"), loaded("c", 2)], 10, NOW)
    assert (decision.start, decision.leave) == (["a", "b"], [])


def test_what_nobody_wants_is_not_started() -> None:
    assert starting(Place("a", 1)) == []


def test_the_least_recently_used_leaves_and_no_more_than_are_in_the_way() -> None:
    places = loaded("new", used_at=900.0), loaded("old", used_at=300.0), wanted("a")
    assert leaving(*places) == ["old"]
    assert starting(*places) == []


def test_who_comes_is_started_only_when_who_leaves_is_gone() -> None:
    old = replace(loaded("old"), state="leaving")
    assert decide([old, loaded("new"), wanted("a")], 10, NOW) == decide([], 10, NOW)


def test_neither_the_busy_nor_the_pinned_leave() -> None:
    assert leaving(loaded("busy", busy=True), loaded("pinned", pinned=True), wanted("a")) == []


def test_nobody_leaves_in_vain() -> None:
    assert leaving(loaded("idle"), loaded("busy", busy=True), wanted("large", 9)) == []


def test_a_model_is_left_to_those_for_whom_it_was_loaded() -> None:
    fresh = loaded("fresh", 8)
    fresh = replace(fresh, loaded_at=NOW - FIRST_IDLE_S + 1, used_at=NOW - FIRST_IDLE_S + 1)
    assert leaving(fresh, wanted("a")) == []
    assert leaving(replace(fresh, used_at=NOW), wanted("a")) == ["fresh"]  # they had it
    later = replace(fresh, loaded_at=NOW - FIRST_IDLE_S, used_at=NOW - FIRST_IDLE_S)
    assert leaving(later, wanted("a")) == ["fresh"]  # they did not come


def test_the_busy_that_was_loaded_the_longest_ago_makes_way_for_who_has_been_patient() -> None:
    older, newer = loaded("older", busy=True), replace(loaded("newer", busy=True), loaded_at=500.0)
    assert leaving(newer, older, wanted("a", waited_s=BUSY_GRACE_S - 1)) == []
    assert leaving(newer, older, wanted("a", waited_s=BUSY_GRACE_S)) == ["older"]
    only_now = replace(older, loaded_at=NOW - BUSY_GRACE_S + 1)
    assert leaving(only_now, wanted("a", 8, waited_s=BUSY_GRACE_S)) == []
    pinned = replace(older, pinned=True)
    assert leaving(newer, pinned, wanted("a", waited_s=BUSY_GRACE_S)) == ["newer"]


def test_who_has_been_patient_is_not_overtaken() -> None:
    loads = Place("loads", 6, "loading")
    assert starting(loads, wanted("large", 8, BUSY_GRACE_S - 1), wanted("small", 2)) == ["small"]
    assert starting(loads, wanted("large", 8, BUSY_GRACE_S), wanted("small", 2)) == []


def test_who_can_never_come_in_holds_nobody_up() -> None:
    pinned = loaded("pinned", pinned=True)
    for size in (8, 11):
        assert starting(pinned, wanted("large", size, 2 * BUSY_GRACE_S), wanted("a")) == ["a"]


def test_a_preload_takes_what_is_free_and_nothing_else() -> None:
    assert starting(loaded("idle"), Place("a", 4, preload=True)) == ["a"]
    assert decide([loaded("idle", 8), Place("a", 4, preload=True)], 10, NOW).leave == []


def test_an_idle_model_leaves_after_its_time() -> None:
    idle = loaded("idle", used_at=NOW - 60)
    assert leaving(replace(idle, idle_limit_s=60)) == ["idle"]
    assert leaving(replace(idle, idle_limit_s=61)) == []
    assert leaving(replace(idle, idle_limit_s=0)) == []
    assert leaving(replace(idle, idle_limit_s=60, pinned=True)) == []
    assert leaving(replace(idle, idle_limit_s=60, busy=True)) == []


@pytest.mark.parametrize(
    ("size", "others", "room"),
    [
        (11, [], "never"),
        (6, [loaded("x", 4, busy=True)], "free"),
        (8, [loaded("x", 4)], "idle"),
        (8, [replace(loaded("x", 4), state="leaving")], "idle"),
        (8, [replace(loaded("x", 4, busy=True), state="leaving")], "busy"),
        (8, [loaded("x", 4, busy=True)], "busy"),
        (8, [Place("x", 4, "loading")], "busy"),
        (8, [loaded("x", 4, busy=True, pinned=True)], "pinned"),
        (8, [loaded("x", 3, pinned=True), loaded("y", 3, busy=True)], "pinned"),
        (7, [loaded("x", 3, pinned=True), loaded("y", 3, busy=True)], "busy"),
    ],
)
def test_what_stands_in_the_way_is_told(size: int, others: list[Place], room: str) -> None:
    mine = wanted("mine", size)
    assert room_for(mine, [mine, *others], 10, NOW) == room


# --- a host in time --------------------------------------------------------------------------

BUDGET = 10
LOADING_S = 2
LONGEST_JOB_S = 4


@dataclass
class World:
    """Models whose jobs come whenever somebody waits or a property says so; a second a turn."""

    places: dict[str, Place]
    now: float = 0.0
    ready_at: dict[str, float] = field(default_factory=dict)
    ends_at: dict[str, float] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)

    def turn(self, wishes: set[str], *, greedy: bool) -> None:
        """
        Args:
            greedy: whether every model that is in gets another job as one ends.
        """
        self.now += 1.0
        for name in wishes:
            place = self.places[name]
            if place.state in ("out", "leaving") and place.size_bytes <= BUDGET:
                self._change(name, wanted_since=place.wanted_since or self.now)
        for name in self.places:
            self._live(name, greedy=greedy)
        before = dict(self.places)
        decision = decide(list(self.places.values()), BUDGET, self.now)
        for name in decision.leave:
            left = before[name]
            patient = any(
                self.now - other.wanted_since >= BUSY_GRACE_S
                for other in before.values()
                if other.wanted_since is not None
            )
            assert left.state == "in" and not left.pinned
            assert patient or not left.busy
            self._change(name, state="leaving")
        for name in decision.start:
            assert before[name].state == "out"
            self._change(name, state="loading")
            self.ready_at[name] = self.now + LOADING_S
        held = sum(p.size_bytes for p in self.places.values() if p.state != "out")
        assert held <= BUDGET

    def _live(self, name: str, *, greedy: bool) -> None:
        place = self.places[name]
        if place.state == "loading" and self.now >= self.ready_at[name]:
            waited = place.wanted_since is not None
            self._change(name, state="in", loaded_at=self.now, used_at=self.now, wanted_since=None)
            if waited:
                self._begin_job(name)
        elif place.busy and self.now >= self.ends_at[name]:
            self._change(name, busy=False, used_at=self.now)
            if greedy and place.state == "in":
                self._begin_job(name)
        elif place.state == "leaving" and not place.busy:
            self._change(name, state="out")

    def _begin_job(self, name: str) -> None:
        self.ends_at[name] = self.now + LONGEST_JOB_S
        self._change(name, busy=True)

    def _change(self, name: str, **fields: Any) -> None:
        self.places[name] = replace(self.places[name], **fields)


SIZES = st.lists(st.integers(1, BUDGET + 1), min_size=2, max_size=5)
WISHES = st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=60)


def world_of(sizes: list[int], *, pinned: bool) -> World:
    places = {f"m{index}": Place(f"m{index}", size) for index, size in enumerate(sizes)}
    if pinned and sizes[0] < BUDGET:
        places["m0"] = replace(places["m0"], state="in", pinned=True, idle_limit_s=1.0)
    return World(places)


@given(SIZES, WISHES, st.booleans(), st.booleans())
def test_memory_is_never_given_twice_and_nobody_leaves_who_must_not(
    sizes: list[int], wishes: list[set[int]], greedy: bool, pinned: bool
) -> None:
    world = world_of(sizes, pinned=pinned)
    for wish in wishes:
        world.turn({f"m{index}" for index in wish if index < len(sizes)}, greedy=greedy)


@given(SIZES, st.booleans(), st.booleans())
def test_everybody_who_can_be_served_is_served_though_all_want_everything_always(
    sizes: list[int], greedy: bool, pinned: bool
) -> None:
    world = world_of(sizes, pinned=pinned)
    taken = sum(place.size_bytes for place in world.places.values() if place.pinned)
    possible = {n for n, p in world.places.items() if p.size_bytes <= BUDGET - taken or p.pinned}
    loads = dict.fromkeys(possible, 0)
    a_round_s = len(sizes) * (2 * BUSY_GRACE_S + LONGEST_JOB_S + LOADING_S + FIRST_IDLE_S)
    for _ in range(int(3 * a_round_s)):
        world.turn(set(world.places), greedy=greedy)
        for name in possible:
            loads[name] += world.places[name].state == "in"
        waits = [
            world.now - place.wanted_since
            for name, place in world.places.items()
            if place.wanted_since is not None and name in possible
        ]
        assert max(waits, default=0.0) <= a_round_s
    assert all(loads.values())

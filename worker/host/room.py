"""Who gets the memory: what is started and what must leave, as a function of how things stand.

Those who wait stand in one line, the longest waiting first. Whoever fits is started. Else room is
made: first by models without a job, the one that was used least recently first. While only models
with jobs stand in the way, everybody waits for one of them to fall idle, and others may take what
is free meanwhile. After `BUSY_GRACE_S` that ends: the models with jobs that were loaded the longest
ago, and as long ago at least, take no new ones, so that none keeps the others out for ever, and
nobody behind in the line gets what comes free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.messages import ModelRoom

BUSY_GRACE_S = 10.0
"""How long models with jobs are left to themselves while somebody waits for another one."""
FIRST_IDLE_S = 5.0
"""How long a model is left to those for whom it was loaded, although it has had no job yet."""


@dataclass(frozen=True)
class Place:
    """A model, and what it has to do with memory now.

    Attributes:
        size_bytes: what it takes, or would take.
        state: `out`: not here; `loading`; `in`: takes jobs; `leaving`: will be out by itself.
        busy: has jobs, or somebody waits for it although it is here.
        loaded_at: since when it takes jobs.
        used_at: when its last job ended; `loaded_at` if it has had none.
        wanted_since: since when somebody waits for it; None: nobody does.
        preload: to be loaded if there is room as it is.
        idle_limit_s: after so many seconds without a job it leaves; 0: it stays.
    """

    name: str
    size_bytes: int
    state: Literal["out", "loading", "in", "leaving"] = "out"
    busy: bool = False
    pinned: bool = False
    loaded_at: float = 0.0
    used_at: float = 0.0
    wanted_since: float | None = None
    preload: bool = False
    idle_limit_s: float = 0.0

    def is_idle(self, now: float) -> bool:
        """Whether it could leave and nobody would miss it."""
        unused = self.used_at <= self.loaded_at and now - self.loaded_at < FIRST_IDLE_S
        return self.state == "in" and not (self.busy or self.pinned or unused)


@dataclass
class Decision:
    """
    Attributes:
        start: what is to be loaded now.
        leave: what is to finish its jobs, take no new ones, and leave.
    """

    start: list[str]
    leave: list[str]


@dataclass
class _Memory:
    """`free_bytes` are there; `coming_bytes` will be, less what is set aside for those in line."""

    free_bytes: int
    coming_bytes: int

    @property
    def startable_bytes(self) -> int:
        return min(self.free_bytes, self.free_bytes + self.coming_bytes)

    @property
    def expected_bytes(self) -> int:
        return self.free_bytes + self.coming_bytes


def decide(places: Sequence[Place], budget_bytes: int, now: float) -> Decision:
    """What is to be done now; asked again at every change, and as time passes."""
    decision = Decision([], [])
    memory = _memory(places, budget_bytes)
    for place in _line(places):
        if place.size_bytes <= memory.startable_bytes:
            decision.start.append(place.name)
            memory.free_bytes -= place.size_bytes
        elif place.size_bytes <= budget_bytes and _holds_up(place, places, memory, decision, now):
            break
    for place in places:
        if place.preload and place.state == "out" and place.name not in decision.start:
            if place.size_bytes <= memory.startable_bytes:
                decision.start.append(place.name)
                memory.free_bytes -= place.size_bytes
        elif _is_overdue(place, now) and place.name not in decision.leave:
            decision.leave.append(place.name)
    return decision


def room_for(place: Place, places: Sequence[Place], budget_bytes: int, now: float) -> ModelRoom:
    """What stands in the way of loading it now."""
    if place.size_bytes > budget_bytes:
        return "never"
    others = [other for other in places if other.name != place.name]
    memory = _memory(others, budget_bytes)
    if place.size_bytes <= memory.free_bytes:
        return "free"
    # What leaves with jobs may still answer for long.
    passing = _bytes_of(
        o for o in others if o.is_idle(now) or (o.state == "leaving" and not o.busy)
    )
    if place.size_bytes <= memory.free_bytes + passing:
        return "idle"
    pinned = _bytes_of(other for other in others if other.pinned and other.state != "out")
    return "busy" if place.size_bytes <= budget_bytes - pinned else "pinned"


def _holds_up(
    place: Place, places: Sequence[Place], memory: _Memory, decision: Decision, now: float
) -> bool:
    """Name who must leave for this one, and set aside for it what they leave: nothing if that
    would not be enough. Return whether those behind it in the line get nothing before."""
    waited_s = now - (place.wanted_since or now)
    present = [other for other in places if other.name not in decision.leave]
    candidates = sorted((p for p in present if p.is_idle(now)), key=lambda p: p.used_at)
    if waited_s >= BUSY_GRACE_S:
        candidates += sorted((p for p in present if _has_had(p, now)), key=lambda p: p.loaded_at)
    leaving: list[Place] = []
    missing = place.size_bytes - memory.expected_bytes
    for candidate in candidates:
        if missing > 0:
            leaving.append(candidate)
            missing -= candidate.size_bytes
    if missing <= 0:
        decision.leave += [other.name for other in leaving]
        memory.coming_bytes += _bytes_of(leaving) - place.size_bytes
        return False
    return waited_s >= BUSY_GRACE_S and missing <= _bytes_of(_unsettled(present, now))


def _has_had(place: Place, now: float) -> bool:
    """Whether it has jobs, and has had them for long enough if others wait."""
    has_jobs = place.state == "in" and place.busy and not place.pinned
    return has_jobs and now - place.loaded_at >= BUSY_GRACE_S


def _unsettled(present: Iterable[Place], now: float) -> Iterable[Place]:
    """Models that could leave soon, but not yet: they load, or have not been here for long."""
    for place in present:
        settled = place.pinned or place.is_idle(now) or _has_had(place, now)
        if place.state in ("loading", "in") and not settled:
            yield place


def _line(places: Iterable[Place]) -> list[Place]:
    waiting = [p for p in places if p.state == "out" and p.wanted_since is not None]
    return sorted(waiting, key=lambda p: (p.wanted_since or 0.0, p.name))


def _is_overdue(place: Place, now: float) -> bool:
    limit_s = place.idle_limit_s
    return bool(limit_s) and place.is_idle(now) and now - place.used_at >= limit_s


def _memory(places: Iterable[Place], budget_bytes: int) -> _Memory:
    present = [place for place in places if place.state != "out"]
    leaving = _bytes_of(place for place in present if place.state == "leaving")
    return _Memory(budget_bytes - _bytes_of(present), leaving)


def _bytes_of(places: Iterable[Place]) -> int:
    return sum(place.size_bytes for place in places)

"""A host that obeys the protocol (`docs/protocol.md`, "Catalogues") without processes or memory.

Models have sizes, the host has a budget. It decides by the function that supervisors decide by
(`worker/host/room.py`), and what it must never do is asserted where it does it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

from scripts.simulated_worker import SimulatedWorker
from shared.messages import (
    Catalogue,
    CatalogueEntry,
    Goodbye,
    Heartbeat,
    Hello,
    Load,
    Message,
    ModelRoom,
    ModelStatus,
    Unload,
)
from tests.gateway.dispatch.core.simulation import Simulation
from worker.host.room import BUSY_GRACE_S, FIRST_IDLE_S, Place, decide, room_for

LOADING_TAKES_S = 2.0
FORGETS_AFTER_S = 5.0
"""Who has not been asked for so long is not waited for any more."""
STARTS = itertools.count(1)
COMES_BACK_S = 20.0
"""Whose engine died when it was loaded is waited for as long."""
RETRY_S = 8.0


@dataclass
class Model:
    name: str
    size: int
    pinned: bool = False
    broken: bool = False
    """Loading it fails."""
    aliases: list[str] = field(default_factory=list)
    kept: bool = False
    """Its host has no other, and loads it of its own accord."""
    downloaded: tuple[int, int] = (0, 0)
    """It is being fetched: bytes that are here, and all."""
    engine: SimulatedWorker | None = None
    ready_at: float | None = None
    """It is being loaded until then."""
    leaving: bool = False
    """Its engine takes no more jobs, and ends with the last that it has."""
    retry_at: float = 0.0
    wanted_since: float | None = None
    wanted_until: float = float("-inf")
    loaded_at: float = 0.0
    used_at: float = 0.0
    begun: int = 0
    """How many runs its engine had begun at the last look."""
    idle_unload_s: float | None = None
    loads: int = 0

    @property
    def idle(self) -> bool:
        return self.ready_at is None and self.engine is not None and not self.engine.runs

    @property
    def busy(self) -> bool:
        return self.engine is not None and bool(self.engine.runs)

    def place(self, now: float) -> Place:
        state: Literal["out", "loading", "in", "leaving"] = "out"
        if self.engine is not None:
            state = "in" if self.ready_at is None else "loading"
        if self.engine is not None and self.leaving:
            state = "leaving"
        absent = now < self.retry_at or self.downloaded[1] > 0
        return Place(
            self.name,
            self.size,
            state,
            busy=self.busy or (state == "in" and self.wanted_since is not None),
            pinned=self.pinned,
            loaded_at=self.loaded_at,
            used_at=self.used_at,
            wanted_since=None if absent else self.wanted_since,
            preload=self.kept and not absent,
            idle_limit_s=self.idle_unload_s or 0.0,
        )


class SimulatedHost:
    """
    Args:
        budget: memory for all models together, in the same unit as their sizes.
    """

    def __init__(
        self, simulation: Simulation, name: str, budget: int, *models: Model, slots: int = 1
    ) -> None:
        self.simulation = simulation
        self.name = name
        self.budget = budget
        self.models = {model.name: model for model in models}
        self.slots = slots
        self.instance = f"{name}-{next(STARTS)}"
        self.routing_id = b""
        self.heard: list[Message] = []
        simulation.join(self)
        self._decide()

    # --- what it says ----------------------------------------------------------------------

    def catalogue(self, *, leaving: bool = False) -> Catalogue:
        return Catalogue(
            worker=self.name,
            instance=self.instance,
            models=[self._entry(model) for model in self.models.values()],
            memory_budget_bytes=self.budget,
            memory_used_bytes=self.used,
            leaving=leaving,
        )

    def tell(self) -> None:
        """State how it is, to whom it may concern."""
        if self.routing_id not in self.simulation.deaf:
            self.simulation.arrive(self.routing_id, self.catalogue())

    def _entry(self, model: Model) -> CatalogueEntry:
        now = self.simulation.now
        status: ModelStatus = "unloaded"
        if model.engine is not None:
            status = "loading" if model.ready_at is not None else "loaded"
        elif now < model.retry_at:
            status = "failed"
        elif model.downloaded[1]:
            status = "downloading"
        done, total = model.downloaded
        return CatalogueEntry(
            name=model.name,
            status=status,
            slots=self.slots,
            stream_slots=self.slots,
            aliases=model.aliases,
            room=self.room(model),
            error="it is broken" if status == "failed" else "",
            retry_s=max(0.0, model.retry_at - now),
            memory_bytes=model.size,
            pinned=model.pinned,
            idle_s=now - model.used_at if model.idle else None,
            kept=model.kept,
            fraction=done / total if total else 0.0,
            done_bytes=done,
            total_bytes=total,
        )

    @property
    def used(self) -> int:
        return sum(model.size for model in self.models.values() if model.engine is not None)

    @property
    def places(self) -> list[Place]:
        return [model.place(self.simulation.now) for model in self.models.values()]

    def room(self, wanted: Model) -> ModelRoom:
        now = self.simulation.now
        return room_for(wanted.place(now), self.places, self.budget, now)

    # --- what it hears ---------------------------------------------------------------------

    def take(self, message: Message) -> list[Message]:
        self.heard.append(message)
        if isinstance(message, Load | Unload):
            self.check_order(message)
            self.obey(message)
            return [self.catalogue()]
        return []

    def check_order(self, order: Load | Unload) -> None:
        """What no gateway may ask."""
        assert not self._named(order.model).kept, "nobody is asked for what is kept"
        if isinstance(order, Unload) or order.idle_unload_s is not None:
            return
        view = self.simulation.core.view
        sessions = [one for one in view.sessions.values() if one.pool == order.model]
        assert "ready" not in {one.state for one in sessions}, "nobody is asked for what is there"

    def obey(self, order: Load | Unload) -> None:
        """Whichever gateway's."""
        model, now = self._named(order.model), self.simulation.now
        if isinstance(order, Unload):
            model.wanted_since = None
            self._let_go(model)
            return
        if order.idle_unload_s is not None:
            model.idle_unload_s = order.idle_unload_s
        model.wanted_since = now if model.wanted_since is None else model.wanted_since
        model.wanted_until = now + FORGETS_AFTER_S
        self._decide()

    def _named(self, name: str) -> Model:
        return next(m for m in self.models.values() if name in (m.name, *m.aliases))

    def _decide(self) -> None:
        now = self.simulation.now
        waits = [now - p.wanted_since for p in self.places if p.wanted_since and p.state == "out"]
        patient = max(waits, default=0.0) >= BUSY_GRACE_S
        decision = decide(self.places, self.budget, now)
        for name in decision.leave:
            model = self.models[name]
            unused = model.used_at <= model.loaded_at and now - model.loaded_at < FIRST_IDLE_S
            assert model.engine is not None and not model.pinned
            assert patient or not (model.busy or unused), "it is left to those who asked for it"
            self._let_go(model)
        for name in decision.start:
            self._start(self.models[name])
        assert self.used <= self.budget

    def _start(self, model: Model) -> None:
        assert model.engine is None, "no model is here twice"
        model.loads += 1
        model.leaving, model.begun = False, 0
        model.ready_at = self.simulation.now + LOADING_TAKES_S
        model.engine = SimulatedWorker(
            f"{self.name}/{model.name}",
            self.slots,
            self.slots,
            model=model.name,
            state="loading",
            supervisor="" if model.kept else self.instance,
        )
        engine = model.engine
        self.simulation.later(lambda: self._connect(model, engine))

    def _connect(self, model: Model, engine: SimulatedWorker) -> None:
        if model.engine is engine:
            self.simulation.connect(engine)

    # --- what happens ----------------------------------------------------------------------

    def advance(self) -> None:
        """Time has passed: loads end, waiting ones begin."""
        now = self.simulation.now
        for model in self.models.values():
            engine = model.engine
            if engine is not None and (engine.runs or engine.begun > model.begun):
                model.used_at, model.begun = now, engine.begun
            if model.ready_at is not None and now >= model.ready_at:
                self._loaded(model)
            if model.leaving and not model.busy:
                self.unload(model)
            if model.wanted_until < now:
                model.wanted_since = None
        self._decide()
        self.tell()

    def _loaded(self, model: Model) -> None:
        engine, model.ready_at = model.engine, None
        if engine is None or model.broken:
            model.retry_at = self.simulation.now + RETRY_S
            self.end_engine(model)
            return
        engine.state = "draining" if model.leaving else "ready"
        model.loaded_at = model.used_at = self.simulation.now
        self.say_for(engine, engine.hello())

    def say_for(self, engine: SimulatedWorker, message: Hello | Heartbeat | Goodbye) -> None:
        if engine.routing_id and engine.routing_id not in self.simulation.deaf:
            self.simulation.say(engine, message)

    def _let_go(self, model: Model) -> None:
        """Its engine finishes what it has, takes nothing more, and ends."""
        engine = model.engine
        if engine is None or not engine.runs:
            self.unload(model)
            return
        model.leaving, engine.state = True, "draining"
        self.simulation.later(lambda: self.say_for(engine, engine.heartbeat()))

    def unload(self, model: Model) -> None:
        """At once, whatever it was doing: its engine hands back its jobs and says goodbye."""
        engine = model.engine
        if engine is not None:
            model.engine = model.ready_at = None
            model.leaving = False
            self.simulation.vanish(engine)
            self.simulation.later(lambda: self.say_for(engine, Goodbye()))

    def end_engine(self, model: Model) -> None:
        """Its engine dies: while it loads that is a failure, else it is started anew."""
        engine, now = model.engine, self.simulation.now
        if engine is not None:
            if model.ready_at is not None:
                model.retry_at = now + RETRY_S
            elif not (model.leaving or model.broken):
                model.wanted_since, model.wanted_until = now, now + COMES_BACK_S
            model.engine = model.ready_at = None
            model.leaving = False
            self.simulation.later(lambda: self.simulation.kill(engine))

    def die(self) -> None:
        """The supervisor dies, and its engines with it."""
        for model in self.models.values():
            self.end_engine(model)
        self.simulation.lose_host(self)

    def leave(self) -> None:
        for model in self.models.values():
            self.unload(model)
        self.simulation.arrive(self.routing_id, self.catalogue(leaving=True))
        self.simulation.lose_host(self)

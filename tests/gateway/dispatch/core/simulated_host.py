"""A host that obeys the protocol (`docs/protocol.md`, "Catalogues") without processes or memory.

Models have sizes, the host has a budget. It decides as a supervisor does: what has been without a
job the longest makes room, never what has jobs, never what is pinned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scripts.simulated_worker import SimulatedWorker
from shared.messages import (
    Catalogue,
    CatalogueEntry,
    Goodbye,
    Hello,
    Load,
    Message,
    ModelRoom,
    ModelStatus,
    Unload,
)
from tests.gateway.dispatch.core.simulation import Simulation

LOADING_TAKES_S = 2.0
FORGETS_AFTER_S = 2.5
"""Who has not been asked for so long is not waited for any more."""
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
    retry_at: float = 0.0
    wanted_until: float = float("-inf")
    used_at: float = 0.0
    idle_unload_s: float | None = None
    loads: int = 0

    @property
    def takes_memory(self) -> bool:
        return self.engine is not None

    @property
    def idle(self) -> bool:
        return self.ready_at is None and self.engine is not None and not self.engine.runs


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
        self.instance = f"{name}-1"
        self.routing_id = b""
        self.heard: list[Message] = []
        simulation.join(self)
        self._load_what_is_kept()

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
        return sum(model.size for model in self.models.values() if model.takes_memory)

    def room(self, wanted: Model) -> ModelRoom:
        if wanted.size > self.budget:
            return "never"
        others = [m for m in self.models.values() if m.takes_memory and m is not wanted]
        missing = wanted.size + sum(m.size for m in others) - self.budget
        if missing <= 0:
            return "free"
        loose = [m for m in others if not m.pinned]
        if sum(m.size for m in loose if m.idle) >= missing:
            return "idle"
        return "busy" if sum(m.size for m in loose) >= missing else "pinned"

    # --- what it hears ---------------------------------------------------------------------

    def take(self, message: Message) -> list[Message]:
        self.heard.append(message)
        if isinstance(message, Load | Unload):
            model = self._named(message.model)
            assert not model.kept, "nobody is asked for what is kept"
            if isinstance(message, Unload):
                self.unload(model)
            else:
                if message.idle_unload_s is not None:
                    model.idle_unload_s = message.idle_unload_s
                model.wanted_until = self.simulation.now + FORGETS_AFTER_S
                self._make_room_and_load(model)
            return [self.catalogue()]
        return []

    def _named(self, name: str) -> Model:
        return next(m for m in self.models.values() if name in (m.name, *m.aliases))

    def _make_room_and_load(self, model: Model) -> None:
        if model.engine is not None or self.simulation.now < model.retry_at:
            return
        while self.room(model) == "idle":
            idle = [m for m in self.models.values() if m.idle and not m.pinned]
            self.unload(min(idle, key=lambda m: m.used_at))
        if self.room(model) != "free":
            return
        assert model.engine is None
        model.loads += 1
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

    def _load_what_is_kept(self) -> None:
        for model in self.models.values():
            if model.kept and not model.downloaded[1]:
                self._make_room_and_load(model)

    def _connect(self, model: Model, engine: SimulatedWorker) -> None:
        if model.engine is engine:
            self.simulation.connect(engine)

    # --- what happens ----------------------------------------------------------------------

    def advance(self) -> None:
        """Time has passed: loads end, waiting ones begin."""
        for model in self.models.values():
            if model.engine is not None and model.engine.runs:
                model.used_at = self.simulation.now
            if model.ready_at is not None and self.simulation.now >= model.ready_at:
                self._loaded(model)
        for model in self.models.values():
            if model.wanted_until > self.simulation.now:
                self._make_room_and_load(model)
        self._load_what_is_kept()
        self.tell()

    def _loaded(self, model: Model) -> None:
        engine, model.ready_at = model.engine, None
        if engine is None or model.broken:
            model.retry_at = self.simulation.now + RETRY_S
            self.end_engine(model)
            return
        engine.state = "ready"
        model.used_at = self.simulation.now
        self.say_for(engine, engine.hello())

    def say_for(self, engine: SimulatedWorker, message: Hello | Goodbye) -> None:
        if engine.routing_id and engine.routing_id not in self.simulation.deaf:
            self.simulation.say(engine, message)

    def unload(self, model: Model) -> None:
        """At once, whatever it was doing: its engine hands back its jobs and says goodbye."""
        engine = model.engine
        if engine is not None:
            model.engine = model.ready_at = None
            self.simulation.vanish(engine)
            self.simulation.later(lambda: self.say_for(engine, Goodbye()))

    def end_engine(self, model: Model) -> None:
        """Its engine dies."""
        engine = model.engine
        if engine is not None:
            model.engine = model.ready_at = None
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

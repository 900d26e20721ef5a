"""The models that a request may name: of workers that have one, and of hosts that load them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.dispatch.core.catalogues.demand import ROOM_RANK, Option, on_the_way
from gateway.dispatch.core.catalogues.hosts import Host
from gateway.dispatch.core.sessions import Session
from gateway.dispatch.core.view import View
from gateway.status import ServedModel
from shared.messages import CatalogueEntry, Hello, ModelStatus

STATUS_RANK: tuple[ModelStatus, ...] = ("loaded", "loading", "downloading", "unloaded", "failed")
"""What several hosts say of one model: the best of it is how the model is."""

MOST_ALIASES = 64
"""Of one model that are listed; each entry has all its workers, whatever each calls the model."""


@dataclass
class Known:
    """All that is known of one model."""

    name: str
    hellos: list[Hello] = field(default_factory=list)
    """Of workers that are ready, and of those on lease."""
    ready: list[Session] = field(default_factory=list)
    others: list[Session] = field(default_factory=list)
    """Of workers that load it or take no more requests, whoever lists it."""
    options: list[Option] = field(default_factory=list)

    @property
    def entries(self) -> list[CatalogueEntry]:
        return [entry for _, entry in self.options]


def served_models(core: View, created: int) -> list[ServedModel]:
    """Return all of them, first names first, then each alias as a model of its own, whose one alias
    is itself: the others stand in the entry of the first name.

    Args:
        created: Unix time in seconds.
    """
    models = [_served(known, core, created) for known in _known(core).values()]
    names = {model.id for model in models}
    aliases = {alias: model for model in models for alias in model.aliases if alias not in names}
    return models + [replace(model, id=alias, aliases=[alias]) for alias, model in aliases.items()]


def described_host(host: Host) -> dict[str, Any]:
    """Return what `/v1/queue/stats` tells of a host: its memory, and what takes it."""
    return {
        "id": host.name,
        "host": host.catalogue.host,
        "state": "connected" if host.here else "away",
        "memory_budget_bytes": host.catalogue.memory_budget_bytes,
        "memory_used_bytes": host.catalogue.memory_used_bytes,
        "listed": len(host.entries),
        "models": [
            {
                "id": entry.name,
                "status": entry.status,
                "fraction": entry.fraction,
                "memory_bytes": entry.memory_bytes,
                "done_bytes": entry.done_bytes,
                "total_bytes": entry.total_bytes,
                "pinned": entry.pinned,
                "idle_s": entry.idle_s,
            }
            for entry in host.entries.values()
            if on_the_way(entry)
        ],
    }


def _known(core: View) -> dict[str, Known]:
    models: dict[str, Known] = {}

    def known(name: str) -> Known:
        return models.setdefault(name, Known(name))

    for hello in core.available():
        known(hello.models[0]).hellos.append(hello)
    for session in core.sessions.values():
        there = known(session.pool)
        (there.ready if session.state == "ready" else there.others).append(session)
    for host in core.hosts.values():
        for entry in host.entries.values():
            known(entry.name).options.append((host, entry))
    # In the operator's order, whatever is loaded at the moment.
    listed = [entry.name for host in core.hosts.values() for entry in host.on_demand]
    in_order = {name: known(name) for name in dict.fromkeys(listed)}
    return {name: model for name, model in models.items() if name not in in_order} | in_order


def _served(known: Known, core: View, created: int) -> ServedModel:
    entries, hellos = known.entries, known.hellos
    status, entry = _status(known, asked=core.is_asked_for(known.name))
    draining = not hellos and any(session.state == "draining" for session in known.others)
    named = [*hellos, *(session.hello for session in known.others)]
    facts: list[Hello | CatalogueEntry] = [*hellos, *entries, *named]
    aliases = [name for hello in named for name in hello.models[1:]]
    aliases += [alias for listed in entries for alias in listed.aliases]
    return ServedModel(
        id=known.name,
        created=created,
        context_tokens=_first(fact.context_tokens for fact in facts),
        vision=_first(fact.vision for fact in facts),
        proven=_proven(hellos),
        status=status,
        draining=draining and status == "loaded",
        fraction=_fraction(status, entry, known.others),
        error=entry.error if entry is not None and status == "failed" else "",
        memory_bytes=_memory_bytes(known),
        pinned=any(listed.pinned for listed in entries),
        done_bytes=max((listed.done_bytes for listed in entries), default=0),
        total_bytes=max((listed.total_bytes for listed in entries), default=0),
        idle_s=_idle_s(entries),
        workers=[session.name for session in known.ready],
        aliases=[*dict.fromkeys(aliases)][:MOST_ALIASES],
        hosts=[host.name for host, listed in known.options if not listed.kept],
    )


def _status(known: Known, *, asked: bool) -> tuple[ModelStatus, CatalogueEntry | None]:
    """How it is, and where that was read."""
    here = [entry for host, entry in known.options if host.here]
    best = min(here, key=lambda entry: STATUS_RANK.index(entry.status), default=None)
    if known.hellos:
        return "loaded", best
    if best is None:
        return _status_of_sessions(known.others), None
    if best.status == "unloaded" and asked and best.room in ROOM_RANK and best.room != "busy":
        # A host has just been asked, and has yet to say that it has begun.
        return "loading", best
    return best.status, best


def _status_of_sessions(sessions: Iterable[Session]) -> ModelStatus:
    """How a model is that nobody has ready and nobody lists."""
    states = {session.state for session in sessions}
    if "loading" in states:
        return "loading"
    return "loaded" if "draining" in states else "unloaded"


def _fraction(
    status: ModelStatus, entry: CatalogueEntry | None, sessions: Iterable[Session]
) -> float:
    if status == "loaded":
        return 1.0
    told = [entry.fraction] if entry is not None and status in ("loading", "downloading") else []
    if status == "loading":
        beats = [session.heartbeat for session in sessions if session.state == "loading"]
        told += [beat.loaded_fraction for beat in beats if beat is not None]
    return min(1.0, max(told, default=0.0))


def _memory_bytes(known: Known) -> int | None:
    """Where it is loaded, as it was measured; else the estimate of who lists it."""
    sizes = [entry.memory_bytes for entry in known.entries if entry.status == "loaded"]
    sessions = [*known.ready, *known.others]
    sizes += [s.heartbeat.memory_bytes for s in sessions if s.heartbeat is not None]
    sizes = sizes or [entry.memory_bytes for entry in known.entries]
    return max(sizes, default=0) or None


def _idle_s(entries: Iterable[CatalogueEntry]) -> float | None:
    loaded = [entry.idle_s for entry in entries if entry.status == "loaded"]
    idle = [seconds for seconds in loaded if seconds is not None]
    return min(idle) if idle and len(idle) == len(loaded) else None


def _first(facts: Iterable[Any]) -> Any:
    return next((fact for fact in facts if fact is not None), None)


def _proven(hellos: Iterable[Hello]) -> dict[str, bool]:
    """What every worker that has tried it found right."""
    found: dict[str, bool] = {}
    for hello in hellos:
        for ability, held in hello.proven.items():
            found[ability] = found.get(ability, True) and held
    return found

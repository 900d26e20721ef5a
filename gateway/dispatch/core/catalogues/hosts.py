"""The hosts as this gateway sees them: what each one's last catalogue says, and who lists a model.

A *host* is a supervisor of engine processes, one for each loaded model. Its session is one of its
own, beside theirs; it takes no jobs. Nobody asks it for a model that it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from dataclasses import dataclass, field
from typing import TypeVar

from shared.messages import Catalogue, CatalogueEntry

MAX_HOSTS = 1_024
"""As many as sessions of engines: each worker is a host."""
MAX_LISTED_NAMES = 16_384
"""Names and aliases in all catalogues together."""

MAX_NAME_CHARACTERS = 256

V = TypeVar("V")


@dataclass(frozen=True)
class IdleLimit:
    """What a host was told last about one of its models."""

    seconds: float
    told_at: float


@dataclass(eq=False)
class Host:
    routing_id: bytes
    catalogue: Catalogue
    seen_at: float
    away_until: float | None = None
    """It has vanished without a word: for so long it is not asked, and what it lists is not
    forgotten, because its supervisor is probably being restarted."""
    idle_limits: dict[str, IdleLimit] = field(default_factory=dict)
    """By model, what this gateway's requests have asked for."""

    def __post_init__(self) -> None:
        self.state(self.catalogue)

    def state(self, catalogue: Catalogue) -> None:
        """Take over what it says now."""
        self.catalogue = catalogue
        self.entries = {entry.name: entry for entry in catalogue.models}
        self.on_demand = [entry for entry in catalogue.models if not entry.kept]
        """Those that it loads when it is asked."""

    @property
    def name(self) -> str:
        return self.catalogue.worker

    @property
    def instance(self) -> str:
        return self.catalogue.instance

    @property
    def here(self) -> bool:
        return self.away_until is None

    @property
    def free_bytes(self) -> int:
        return max(0, self.catalogue.memory_budget_bytes - self.catalogue.memory_used_bytes)


class Hosts:
    """Hosts by routing id, and an index of what they list: a request asks by name."""

    def __init__(self) -> None:
        self.by_id: dict[bytes, Host] = {}
        self._listing: dict[str, dict[bytes, Host]] = {}
        self._aliases: dict[str, dict[bytes, str]] = {}
        self._names = 0

    # --- what is asked ---------------------------------------------------------------------

    @property
    def pools(self) -> KeysView[str]:
        """First names of all models that somebody lists."""
        return self._listing.keys()

    def lists(self, pool: str) -> bool:
        return pool in self._listing

    def listing(self, pool: str) -> list[tuple[Host, CatalogueEntry]]:
        """Who lists that model, and how it is there."""
        return [(host, host.entries[pool]) for host in self._listing.get(pool, {}).values()]

    def pool_of(self, name: str) -> str | None:
        """The model of that name; a first name goes before an alias, whoever claims it."""
        if name in self._listing:
            return name
        pools = self._aliases.get(name)
        # Every gateway takes the same one where hosts disagree.
        return min(pools.values()) if pools else None

    def offered(self, pool: str) -> tuple[int, int]:
        """Slots and stream slots that the model has once it is loaded on one host."""
        entries = [entry for _, entry in self.listing(pool)]
        return (
            max((entry.slots for entry in entries), default=0),
            max((entry.stream_slots for entry in entries), default=0),
        )

    def keeping(self, name: str) -> list[tuple[Host, CatalogueEntry]]:
        """The hosts that have this model and no other, and how it is there."""
        return [
            (host, entry)
            for host in self.by_id.values()
            if host.here
            for entry in host.entries.values()
            if entry.kept and name in (entry.name, *entry.aliases)
        ]

    def has_room_for(self, catalogue: Catalogue, known: Host | None) -> bool:
        """Whether this gateway can remember all that it lists, instead of what it knows."""
        before = _count_names(known.catalogue.models) if known is not None else 0
        names = self._names - before + _count_names(catalogue.models)
        hosts = len(self.by_id) + (known is None)
        return hosts <= MAX_HOSTS and names <= MAX_LISTED_NAMES

    # --- what changes it -------------------------------------------------------------------

    def open(self, host: Host) -> None:
        self.by_id[host.routing_id] = host
        self._enlist(host)

    def restate(self, host: Host, catalogue: Catalogue) -> list[str]:
        """Take over a host's catalogue. Returns the models that nobody lists any more."""
        former = host.on_demand
        if _names(host.catalogue) == _names(catalogue):
            host.state(catalogue)
            return []
        self._strike(host)
        host.state(catalogue)
        self._enlist(host)
        host.idle_limits = {n: lim for n, lim in host.idle_limits.items() if n in host.entries}
        return self._unlisted(former)

    def close(self, host: Host) -> list[str]:
        """Forget a host. Returns the models that nobody lists any more."""
        del self.by_id[host.routing_id]
        self._strike(host)
        return self._unlisted(host.on_demand)

    def _enlist(self, host: Host) -> None:
        self._names += _count_names(host.catalogue.models)
        for entry in host.on_demand:
            self._listing.setdefault(entry.name, {})[host.routing_id] = host
            for alias in entry.aliases:
                self._aliases.setdefault(alias, {})[host.routing_id] = entry.name

    def _strike(self, host: Host) -> None:
        self._names -= _count_names(host.catalogue.models)
        for entry in host.on_demand:
            _drop(self._listing, entry.name, host.routing_id)
            for alias in entry.aliases:
                _drop(self._aliases, alias, host.routing_id)

    def _unlisted(self, entries: Iterable[CatalogueEntry]) -> list[str]:
        return [entry.name for entry in entries if entry.name not in self._listing]


def presentable(catalogue: Catalogue) -> bool:
    """Whether what it names may stand in logs, metrics and on the page, and each thing once."""
    texts = [catalogue.worker, catalogue.instance, catalogue.host]
    names = [entry.name for entry in catalogue.models]
    aliases = [alias for entry in catalogue.models for alias in entry.aliases]
    return (
        bool(catalogue.worker and catalogue.instance)
        and all(names)
        and all(aliases)
        and len(set(names)) == len(names)
        and all(
            len(text) <= MAX_NAME_CHARACTERS and text.isprintable()
            for text in (*texts, *names, *aliases)
        )
    )


def _names(catalogue: Catalogue) -> list[tuple[str, list[str], bool]]:
    return [(entry.name, entry.aliases, entry.kept) for entry in catalogue.models]


def _count_names(entries: Iterable[CatalogueEntry]) -> int:
    return sum(1 + len(entry.aliases) for entry in entries)


def _drop(index: dict[str, dict[bytes, V]], name: str, routing_id: bytes) -> None:
    holders = index.get(name, {})
    holders.pop(routing_id, None)
    if not holders:
        index.pop(name, None)

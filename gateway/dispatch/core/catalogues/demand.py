"""That somebody waits for a model which nobody has loaded: which host is asked to load it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from gateway.dispatch.core.catalogues.hosts import Host
from shared.messages import CatalogueEntry, ModelRoom, ModelStatus

ASK_EVERY_S = 1.0

ON_THE_WAY: frozenset[ModelStatus] = frozenset({"downloading", "loading", "loaded"})

ROOM_RANK: dict[ModelRoom, int] = {"free": 0, "idle": 1, "busy": 2}
"""What stands in the way of loading it and passes by itself, the best first."""

ASK_ANOTHER_AFTER_S: dict[ModelStatus, float] = {
    "unloaded": 5.0,
    "failed": 5.0,
    "downloading": 120.0,
    "loading": 120.0,
    "loaded": 20.0,
}
"""For how long a host that has been asked may stay as it is before another one is asked: it may
have taken more upon itself than it can do. `loaded`: its engine's own session has yet to come."""

Option = tuple[Host, CatalogueEntry]
"""A host and how the model is there."""


def on_the_way(entry: CatalogueEntry) -> bool:
    return entry.status in ON_THE_WAY


def refused(entry: CatalogueEntry) -> bool:
    """Whether asking this host is in vain, now or for good."""
    if on_the_way(entry):
        return False
    return entry.room not in ROOM_RANK or (entry.status == "failed" and entry.retry_s > 0)


@dataclass
class Standing:
    """How a model has been on a host since it was asked for it."""

    status: ModelStatus
    fraction: float
    since: float


@dataclass
class Demand:
    """For one model, for as long as somebody waits for it."""

    host: bytes = b""
    """Routing id of the host that was asked last."""
    asked_at: float = float("-inf")
    idle_unload_s: float | None = None
    """What its requests have asked for; goes with every `Load`."""
    standings: dict[bytes, Standing] = field(default_factory=dict)
    """Of the hosts that have been asked."""

    def choose(
        self, options: Iterable[Option], now: float, leaving: Collection[str] = ()
    ) -> Host | None:
        """The host to ask, or None when it would be in vain everywhere: where the model is on its
        way, else where the least stands in its way, else where the most memory is free. Who was
        asked before stays the one among equals, so that no two hosts load it in turn.

        Args:
            leaving: instances of hosts whose engine of this model takes no jobs any more.
        """
        candidates = [(host, entry) for host, entry in options if host.here and not refused(entry)]
        if not candidates:
            return None

        def rank(option: Option) -> tuple[bool, int, bool, int]:
            host, entry = option
            if host.instance in leaving:
                room = ROOM_RANK["busy"]
            else:
                room = -1 if on_the_way(entry) else ROOM_RANK[entry.room]
            stuck = self._stuck(host, entry, now)
            return stuck, room, host.routing_id != self.host, -host.free_bytes

        return min(candidates, key=rank)[0]

    def is_due(self, host: Host, now: float) -> bool:
        return host.routing_id != self.host or now >= self.asked_at + ASK_EVERY_S

    def asked(self, host: Host, entry: CatalogueEntry, now: float) -> None:
        self.host, self.asked_at = host.routing_id, now
        self.standings.setdefault(host.routing_id, Standing(entry.status, entry.fraction, now))

    def _stuck(self, host: Host, entry: CatalogueEntry, now: float) -> bool:
        """Whether it was asked long enough ago, and nothing has come of it."""
        standing = self.standings.get(host.routing_id)
        if standing is None:
            return False
        waits_for_room = entry.status in ("unloaded", "failed") and entry.room == "busy"
        if waits_for_room or (standing.status, standing.fraction) != (entry.status, entry.fraction):
            standing.status, standing.fraction = entry.status, entry.fraction
            standing.since = now
        return now - standing.since > ASK_ANOTHER_AFTER_S[entry.status]

"""Hosts coming, going and falling silent; and models that are asked of them for those who wait.

A job for a model that is listed but loaded nowhere waits like any other. For as long as somebody
does, one host is asked once a second: the asking itself tells it that somebody waits, and heals
whatever was lost. The host decides, and says in its next catalogue what becomes of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from gateway.dispatch.core.acts import OrderModel
from gateway.dispatch.core.catalogues.demand import (
    ASK_EVERY_S,
    Demand,
    Option,
    on_the_way,
    refused,
)
from gateway.dispatch.core.catalogues.hosts import Host, Hosts, IdleLimit, presentable
from gateway.dispatch.core.catalogues.refusals import (
    check_loads,
    not_loaded_in_time,
    why_not_loaded,
)
from gateway.dispatch.core.changes import Changes
from gateway.dispatch.core.dispatcher import Dispatcher
from gateway.dispatch.core.failover import Failover
from gateway.dispatch.core.refusals import not_in_a_catalogue, not_served
from gateway.dispatch.core.sessions import (
    HEARTBEAT_S,
    LEASE_S,
    MADE_UP,
    MISSED_HEARTBEATS,
    SUSPECT_HEARTBEATS,
    Registry,
)
from gateway.errors import ApiError
from shared.messages import Catalogue, Load, Ping, Unload, Welcome

log = logging.getLogger(__name__)

TURNED_AWAY_S = 5.0
"""For how long a model is asked for on behalf of somebody who could not wait for it."""

DROP_REASONS = ("bad_catalogue", "late_catalogue", "too_many_hosts")
"""Why catalogues are dropped here. All are told from the start."""


class Loading:
    """
    Args:
        order_timeout_s: for how long an operator's order to load a model is kept up.
    """

    def __init__(
        self,
        gateway_id: str,
        hosts: Hosts,
        registry: Registry,
        dispatcher: Dispatcher,
        failover: Failover,
        changes: Changes,
        order_timeout_s: float,
    ) -> None:
        self.dropped: Counter[str] = Counter(dict.fromkeys(DROP_REASONS, 0))
        self._gateway_id = gateway_id
        self._hosts = hosts
        self._registry = registry
        self._dispatcher = dispatcher
        self._failover = failover
        self._changes = changes
        self._order_timeout_s = order_timeout_s
        self._wanted: dict[str, Demand] = {}
        self._ordered: dict[str, float] = {}
        """Models that an operator has asked for, or who could not wait, and until when."""
        self._taken_back: set[str] = set()
        """Models whose order to load was ended by one to unload."""
        self._unloading: dict[str, set[bytes]] = {}
        """Models that an operator has ordered away, and the hosts that still have them."""
        self._unlisted: set[str] = set()
        """Models that no host lists any more, and that somebody still waits for or has loaded."""
        self._next_ping_at = 0.0

    # --- what hosts say --------------------------------------------------------------------

    def catalogue(self, routing_id: bytes, catalogue: Catalogue, now: float) -> None:
        known = self._hosts.by_id.get(routing_id)
        older = known or self._predecessor(catalogue)
        reason = self._objection(routing_id, catalogue, known, older, now)
        if reason:
            self.dropped[reason] += 1
        elif catalogue.leaving:
            if older is not None:
                self._close(older, now, "leaves")
        elif known is not None and known.instance == catalogue.instance:
            known.seen_at, known.away_until = now, None
            self._restated(known, self._hosts.restate(known, catalogue), now)
        else:
            self._arrived(routing_id, catalogue, older, now)

    def _predecessor(self, catalogue: Catalogue) -> Host | None:
        """The same host under an older routing id; or the one of its name that has vanished, whose
        supervisor has been started anew."""
        for host in self._hosts.by_id.values():
            same_name = (host.name, host.catalogue.host) == (catalogue.worker, catalogue.host)
            if host.instance == catalogue.instance or (same_name and not host.here):
                return host
        return None

    def _objection(
        self,
        routing_id: bytes,
        catalogue: Catalogue,
        known: Host | None,
        older: Host | None,
        now: float,
    ) -> str:
        if routing_id in self._registry.sessions or not presentable(catalogue):
            return "bad_catalogue"
        if older is not known and older is not None and _left_behind(older, routing_id, now):
            return "late_catalogue"
        if not self._hosts.has_room_for(catalogue, older):
            return "too_many_hosts"
        return ""

    def _arrived(
        self, routing_id: bytes, catalogue: Catalogue, older: Host | None, now: float
    ) -> None:
        gone = self._hosts.close(older) if older is not None else []
        if older is not None and older.instance != catalogue.instance:
            self._end_leases(older.instance, kept=(), now=now)
        host = Host(routing_id, catalogue, now)
        self._hosts.open(host)
        for there in self._unloading.values():
            if older is not None and older.routing_id in there:
                there.remove(older.routing_id)
                there.add(routing_id)
        log.info("host %s connected, which lists %d models", host.name, len(host.entries))
        welcome = Welcome(gateway=self._gateway_id, heartbeat_s=HEARTBEAT_S)
        self._dispatcher.send(routing_id, welcome)
        self._restated(host, gone, now)

    def _restated(self, host: Host, gone: Iterable[str], now: float) -> None:
        kept = [name for name, entry in host.entries.items() if on_the_way(entry)]
        self._end_leases(host.instance, kept, now)
        self._unload_done(host, kept)
        self._unlist(gone)
        if not host.on_demand:
            return
        waiting = self._dispatcher.pools_waited_for() | self._ordered.keys()
        self._changes.wanted |= waiting & host.entries.keys()

    def _end_leases(self, supervisor: str, kept: Iterable[str], now: float) -> None:
        """Of engines that the supervisor knows to be gone: all but those of the `kept` models."""
        for worker in self._registry.end_leases_of(supervisor, kept):
            self._failover.confirm_death(worker, now)

    def _unload_done(self, host: Host, kept: Iterable[str] = ()) -> None:
        """The host has none but the `kept` models."""
        for pool in self._unloading.keys() - kept:
            self._unloading[pool].discard(host.routing_id)
            if not self._unloading[pool]:
                del self._unloading[pool]

    def _unlist(self, gone: Iterable[str]) -> None:
        """Nobody lists these models any more. Whoever waits for one is told as soon as nobody has
        it loaded any more, either."""
        unlisted = {pool for pool in gone if not self._hosts.lists(pool)}
        for pool in unlisted:
            self._wanted.pop(pool, None)
            self._ordered.pop(pool, None)
            self._taken_back.discard(pool)
        loaded = {session.pool for session in self._registry.sessions.values()}
        concerned = unlisted & (loaded | self._dispatcher.pools_waited_for())
        self._unlisted |= concerned
        self._changes.wanted |= concerned

    # --- what they do not say --------------------------------------------------------------

    def unreachable(self, routing_id: bytes, now: float) -> None:
        """A send to this peer failed: its process or connection is gone."""
        host = self._hosts.by_id.get(routing_id)
        if host is not None and host.here:
            self._lose(host, now, "has lost its connection")

    def excuse(self, now: float) -> None:
        """Nobody's silence until now counts."""
        for host in self._hosts.by_id.values():
            host.seen_at = now
            if host.away_until is not None:
                host.away_until = now + LEASE_S

    def review(self, now: float, *, ping: bool) -> None:
        """Give up as the time demands, tell the others that this gateway lives, ask again."""
        for host in list(self._hosts.by_id.values()):
            if host.away_until is not None and now >= host.away_until:
                self._close(host, now, "is not expected back any more")
            elif host.here and now - host.seen_at > MISSED_HEARTBEATS * HEARTBEAT_S:
                self._lose(host, now, "has fallen silent")
        if ping or now >= self._next_ping_at:
            self._next_ping_at = now + HEARTBEAT_S
            for host in self._hosts.by_id.values():
                if host.here:
                    self._dispatcher.send(host.routing_id, Ping(gateway=self._gateway_id))
        self._ordered = {pool: until for pool, until in self._ordered.items() if until > now}
        for pool, demand in self._wanted.items():
            if now >= demand.asked_at + ASK_EVERY_S:
                self._changes.wanted.add(pool)

    def _lose(self, host: Host, now: float, why: str) -> None:
        log.warning("host %s %s", host.name, why)
        host.away_until = now + LEASE_S
        self._unload_done(host)
        self._changes.wanted |= self._wanted.keys() & host.entries.keys()

    def _close(self, host: Host, now: float, why: str) -> None:
        log.warning("host %s %s", host.name, why)
        gone = self._hosts.close(host)
        aliases = [alias for entry in host.entries.values() for alias in entry.aliases]
        self._registry.miss([*host.entries, *aliases], now)
        self._end_leases(host.instance, (), now)
        self._unload_done(host)
        self._unlist(gone)

    # --- what is asked of them -------------------------------------------------------------

    def look(self, pool: str, now: float) -> None:
        """See whether somebody waits for that model in vain, and do something about it."""
        options = self._hosts.listing(pool)
        if not options:
            if pool in self._unlisted and not self._registry.expects(pool):
                self._unlisted.discard(pool)
                self._dispatcher.nobody_serves(pool, now)
            return
        self._unlisted.discard(pool)
        if self._is_coming(pool):
            self._ordered.pop(pool, None)
        elif self._is_waited_for(pool):
            self._ask(pool, options, now)
            return
        self._wanted.pop(pool, None)

    def _ask(self, pool: str, options: list[Option], now: float) -> None:
        demand = self._wanted.setdefault(pool, Demand())
        leaving = {
            session.hello.supervisor
            for session in self._registry.sessions.values()
            if session.pool == pool and session.state == "draining"
        }
        host = demand.choose(options, now, leaving)
        if host is not None:
            if demand.is_due(host, now):
                demand.asked(host, host.entries[pool], now)
                load = Load(model=pool, idle_unload_s=demand.idle_unload_s)
                self._dispatcher.send(host.routing_id, load)
        elif all(refused(entry) for _, entry in options):
            del self._wanted[pool]
            self._ordered.pop(pool, None)
            self._dispatcher.fail_waiting(pool, lambda: why_not_loaded(pool, options), now)

    def _is_coming(self, pool: str) -> bool:
        """Whether somebody serves the model, will be back, or loads it of its own accord. An engine
        that a host loads because it is asked for is asked for until it is ready."""
        if self._registry.serves(pool):
            return True
        hosted = {host.instance for host, _ in self._hosts.listing(pool)}
        return any(
            session.pool == pool
            and session.state == "loading"
            and session.hello.supervisor not in hosted
            for session in self._registry.sessions.values()
        )

    def _is_waited_for(self, pool: str) -> bool:
        return pool in self._ordered or self._dispatcher.is_waited_for(pool)

    def turned_away(self, model: str | None, now: float) -> None:
        """There was no place for a request to wait, and it has been told to come back: it is to
        find its model loaded, which is otherwise never loaded where nobody may wait."""
        pool = self._hosts.pool_of(model) if model else None
        if pool is not None and not self._is_coming(pool):
            until = now + TURNED_AWAY_S
            self._ordered[pool] = max(until, self._ordered.get(pool, until))
            self._changes.wanted.add(pool)

    def limit_idle(self, pool: str, seconds: float, now: float) -> None:
        """A request sets anew how long its model stays without a job; 0: for ever."""
        options = [(host, entry) for host, entry in self._hosts.listing(pool) if host.here]
        there = [host for host, entry in options if on_the_way(entry)]
        for host in there:
            told = host.idle_limits.get(pool)
            if told is None or told.seconds != seconds or now >= told.told_at + ASK_EVERY_S:
                host.idle_limits[pool] = IdleLimit(seconds, now)
                self._dispatcher.send(host.routing_id, Load(model=pool, idle_unload_s=seconds))
        if options and not there:
            self._wanted.setdefault(pool, Demand()).idle_unload_s = seconds

    # --- orders ----------------------------------------------------------------------------

    def order(self, order: OrderModel, now: float) -> None:
        """An operator's.

        Raises:
            NotFound: nobody serves or lists that model.
            InvalidRequest: no host lists it, so that it cannot be unloaded.
            ModelTooLarge, NoMemory, NoWorker: why it is not loaded.
        """
        pool = self._hosts.pool_of(order.model)
        if pool is None:
            self._check_served(order, now)
        elif order.action == "unload":
            self._unload(pool)
        elif not self._is_coming(pool):
            check_loads(pool, self._hosts.listing(pool))
            self._ordered[pool] = now + self._order_timeout_s
            self._taken_back.discard(pool)
            self._changes.wanted.add(pool)

    def _unload(self, pool: str) -> None:
        if self._ordered.pop(pool, None) is not None:
            self._taken_back.add(pool)
            self._changes.wanted.add(pool)
        demand = self._wanted.get(pool)
        # Who was asked for it may have begun without having said so yet.
        asked = demand.host if demand is not None else b""
        told = {
            host.routing_id
            for host, entry in self._hosts.listing(pool)
            if host.here and (on_the_way(entry) or host.routing_id == asked)
        }
        for routing_id in told:
            self._dispatcher.send(routing_id, Unload(model=pool))
        if told:
            self._unloading[pool] = told

    def _check_served(self, order: OrderModel, now: float) -> None:
        hellos = self._registry.available_hellos()
        if all(order.model not in hello.models for hello in hellos):
            raise not_served(order.model, self._registry, self._hosts, now)
        if order.action == "unload":
            raise not_in_a_catalogue(order.model)

    def is_pending(self, order: OrderModel) -> bool:
        """Whether that order is neither fulfilled nor given up."""
        pending = self._ordered if order.action == "load" else self._unloading
        return self._hosts.pool_of(order.model) in pending

    def failure(self, model: str) -> ApiError | None:
        """Why an order to load it that is not pending any more was given up; None: it was not."""
        pool = self._hosts.pool_of(model)
        if pool is None or self._is_coming(pool) or pool in self._taken_back:
            return None
        options = self._hosts.listing(pool)
        if all(refused(entry) for _, entry in options):
            return why_not_loaded(pool, options)
        return not_loaded_in_time(pool, options, self._order_timeout_s)

    def is_asked_for(self, pool: str) -> bool:
        return pool in self._wanted


def _left_behind(older: Host, routing_id: bytes, now: float) -> bool:
    """Whether a host that is here under its own routing id has said this long ago: libzmq gives a
    connection that a newer one replaces an id of its own making (see `liveness`)."""
    made_up = routing_id[:1] == MADE_UP and older.routing_id[:1] != MADE_UP
    return made_up and now - older.seen_at <= SUSPECT_HEARTBEATS * HEARTBEAT_S

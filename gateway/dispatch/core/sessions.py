"""The workers as this gateway sees them: sessions and leases.

A *session* is one start of a worker's engine process, known by its socket's routing id. A
*worker* outlives its sessions: its supervisor restarts the engine under the same name. When a
session is lost without a goodbye, the worker's slots stay counted for `LEASE_S`, and for as long
as its next session says that it is loading: clients who come meanwhile wait for it instead of
being refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.dispatch.core.changes import Changes
from gateway.dispatch.core.jobs import Kind
from shared.messages import Heartbeat, Hello, WorkerState

MADE_UP = b"\0"
"""Begins each routing id that libzmq makes up, and no other."""

HEARTBEAT_S = 1.0
SUSPECT_HEARTBEATS = 1.7
MISSED_HEARTBEATS = 3
LEASE_S = 20.0
MAX_LEASES = 128
MAX_NAMES = 1_024
GONE_FOR_NOW_S = 60.0
"""Whose last worker has left so lately is missed, not unknown: workers are started anew."""

MAX_COUNTS_ASKED = 4
"""Prompts that one worker is asked to count at once: they share its threads with generations."""


def identity(hello: Hello) -> str:
    """What tells one worker from another, over all its sessions."""
    return f"{hello.worker}#{hello.instance}"


def process(hello: Hello) -> str:
    """What tells one engine process of a worker from another; empty when it does not say."""
    return f"{identity(hello)}@{hello.host}:{hello.pid}" if hello.pid else ""


@dataclass
class Session:
    """One live connection. Whatever is done to it marks its pool in `changes`."""

    routing_id: bytes
    hello: Hello
    state: WorkerState
    seen_at: float
    changes: Changes = field(repr=False)
    outstanding: dict[str, Kind] = field(default_factory=dict)
    """Runs sent that hold a slot here, until the worker has said that they do not."""
    counting: dict[str, Kind] = field(default_factory=dict)
    """Runs sent that only count, until the worker has answered: also those that nobody waits for
    any more, because it is still busy with them."""
    absent_beats: dict[str, int] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    others: int = 0
    other_streams: int = 0
    """Slots that other gateways hold, as of the last heartbeat."""
    suspect: bool = False
    """A heartbeat is overdue: it gets nothing new until it is heard of again. When a cable is
    pulled, the jobs of the first worker to be given up must not be sent down the same cable."""
    hung: bool = False
    """It made no progress when it was last seen: it gets nothing until it shows some."""
    counts_no_more: bool = False
    """It has rejected a count: it is not asked for another before the next tick."""
    tokens: int = 0
    finished: int = 0
    _streams_out: int = field(default=0, init=False)
    """How many of the outstanding ones are streams: counted, because every dispatch asks."""

    def __post_init__(self) -> None:
        self._take_names()

    def _take_names(self) -> None:
        # Not properties: a dispatch asks them of every worker.
        self.name = self.hello.worker
        self.identity = identity(self.hello)
        self.process = process(self.hello)
        self.pool = self.hello.models[0]

    @property
    def slots(self) -> int:
        return max(0, self.hello.slots - self.others)

    @property
    def stream_slots(self) -> int:
        return max(0, self.hello.stream_slots - self.other_streams)

    def room(self, kind: Kind) -> int:
        """How many more jobs of that kind it can take, as far as this gateway can know."""
        if kind == "non_streaming":
            return self.slots - (len(self.outstanding) - self._streams_out)
        if kind == "streaming":
            return self.stream_slots - self._streams_out
        if self.counts_no_more or not self.hello.counts:
            return 0
        return MAX_COUNTS_ASKED - len(self.counting)

    @property
    def load(self) -> float:
        """Share of all its slots in use, by anyone."""
        total = self.hello.slots + self.hello.stream_slots
        return (len(self.outstanding) + self.others + self.other_streams) / max(1, total)

    @property
    def stalled(self) -> bool:
        """Jobs are active and the engine has made no step for too long."""
        beat = self.heartbeat
        return (
            beat is not None
            and beat.active > 0
            and beat.last_step_age_s > self.hello.stall_timeout_s
        )

    def overdue(self, now: float) -> bool:
        """Whether a heartbeat should have come by now."""
        return now - self.seen_at > SUSPECT_HEARTBEATS * HEARTBEAT_S

    def silent(self, now: float) -> bool:
        return now - self.seen_at > MISSED_HEARTBEATS * HEARTBEAT_S

    # --- what changes it -------------------------------------------------------------------

    def take(self, run_id: str, kind: Kind) -> None:
        """A run has been sent."""
        if kind == "counting":
            self.counting[run_id] = kind
        else:
            self.outstanding[run_id] = kind
            self._streams_out += kind == "streaming"

    def release(self, run_id: str) -> None:
        """A run is not here any more, if it was."""
        self.counting.pop(run_id, None)
        self._streams_out -= self.outstanding.pop(run_id, None) == "streaming"
        self.absent_beats.pop(run_id, None)
        self.changes.stirred.add(self.pool)

    def full(self, kind: Kind) -> None:
        """It has rejected a job, so other gateways hold what looked free: for slots its next
        heartbeat says how many they are."""
        if kind == "counting":
            self.counts_no_more = True
            return
        if kind == "streaming":
            self.other_streams += max(0, self.room(kind))
        else:
            self.others += max(0, self.room(kind))
        self.changes.resized.add(self.pool)

    def heard(self, now: float) -> None:
        """It has said something."""
        self.seen_at = now
        if self.suspect:
            self.suspect = False
            self.changes.stirred.add(self.pool)

    def review(self, now: float) -> None:
        """Time has passed: suspect it or trust it again, and let it be asked to count again."""
        was_shut = self.suspect or self.counts_no_more
        self.suspect = self.overdue(now)
        self.counts_no_more = False
        if was_shut:
            self.changes.stirred.add(self.pool)

    def greeted_again(self, hello: Hello) -> None:
        """The same process says anew who it is."""
        self.hello, self.state = hello, hello.state
        self._take_names()
        self.changes.resized.add(self.pool)

    def observe(self, beat: Heartbeat) -> None:
        """Take over what a heartbeat says."""
        before = (self.state, self.slots, self.stream_slots)
        self.heartbeat = beat
        if self.hung and not self.stalled:
            self.hung = False
            self.changes.stirred.add(self.pool)
        self.state = beat.state
        if beat.state != "loading":
            self.others = max(0, self.hello.slots - beat.free_slots - len(beat.jobs))
            self.other_streams = max(
                0, self.hello.stream_slots - beat.free_stream_slots - len(beat.streams)
            )
        if before != (self.state, self.slots, self.stream_slots):
            self.changes.resized.add(self.pool)


@dataclass
class Lease:
    """What a lost worker had to offer, until it is back or `expires_at`."""

    hello: Hello
    expires_at: float


class Registry:
    """Sessions by routing id, leases by worker identity, and which models there are."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.sessions: dict[bytes, Session] = {}
        self.leases: dict[str, Lease] = {}
        self._served: dict[tuple[str, str], str] = {}
        """What each name of a machine served last."""
        self._missed: dict[str, float] = {}
        """Names of models whose worker has left, and until when it may be back with them."""

    def open(self, routing_id: bytes, hello: Hello, now: float) -> Session:
        session = Session(routing_id, hello, hello.state, now, self._changes)
        self.sessions[routing_id] = session
        self._changes.resized.add(session.pool)
        self.end_lease(session)
        return session

    def miss(self, names: Iterable[str], now: float) -> None:
        """Who had these models has left, and may be back."""
        if len(self._missed) >= MAX_NAMES:
            self._missed = {name: end for name, end in self._missed.items() if end > now}
        if len(self._missed) < MAX_NAMES:
            self._missed.update(dict.fromkeys(names, now + GONE_FOR_NOW_S))

    def is_missed(self, name: str, now: float) -> bool:
        return self._missed.get(name, now) > now

    def model_left(self, hello: Hello) -> str | None:
        """What a worker of this name served last, if it was another model; remembers this one."""
        if len(self._served) >= MAX_NAMES:
            self._served.clear()
        name, pool = (hello.worker, hello.host), hello.models[0]
        former = self._served.get(name, pool)
        self._served[name] = pool
        if former == pool:
            return None
        self._missed.pop(former, None)
        return former

    def end_leases(self, hello: Hello, pool: str) -> list[str]:
        """A worker of this name serves `pool` no more. Returns whose leases that ends."""
        name = (hello.worker, hello.host)
        ended = [
            worker
            for worker, lease in self.leases.items()
            if (lease.hello.worker, lease.hello.host) == name and lease.hello.models[0] == pool
        ]
        for worker in ended:
            self._drop_lease(worker)
        return ended

    def end_leases_of(self, supervisor: str, kept: Iterable[str]) -> list[str]:
        """That supervisor's engines are gone, but for those of the `kept` models. Returns whose
        leases that ends."""
        ended = [
            worker
            for worker, lease in self.leases.items()
            if lease.hello.supervisor == supervisor and lease.hello.models[0] not in kept
        ]
        for worker in ended:
            self._drop_lease(worker)
        return ended

    def serves(self, pool: str) -> bool:
        """Whether somebody has that model ready, however busy, or is expected back with it."""
        return any(self.ready(pool)) or any(
            lease.hello.models[0] == pool for lease in self.leases.values()
        )

    def expects(self, pool: str) -> bool:
        """Whether somebody serves that model, is loading it or will be back."""
        hellos = [session.hello for session in self.sessions.values()]
        hellos += [lease.hello for lease in self.leases.values()]
        return any(hello.models[0] == pool for hello in hellos)

    def end_lease(self, session: Session) -> None:
        """A worker that is ready again needs no lease."""
        if session.state == "ready" and session.identity in self.leases:
            self._drop_lease(session.identity)

    def close(self, session: Session, now: float, *, returning: bool) -> None:
        """Forget a session; `returning` keeps its slots on lease.

        A session that never became ready leaves an earlier lease of its worker as it was.
        """
        self.sessions.pop(session.routing_id, None)
        self._changes.resized.add(session.pool)
        if not session.hello.supervisor:  # else its host says what can still be had
            self.miss(session.hello.models, now)
        known = self.leases.get(session.identity)
        if known is not None:
            self._changes.resized.add(known.hello.models[0])
        if not returning:
            self.leases.pop(session.identity, None)
        elif session.state != "loading" and (known or len(self.leases) < MAX_LEASES):
            self.leases[session.identity] = Lease(session.hello, now + LEASE_S)

    def predecessor(self, hello: Hello, routing_id: bytes) -> Session | None:
        """An older session of the same worker, which the new one supersedes."""
        for session in self.sessions.values():
            if session.identity == identity(hello) and session.routing_id != routing_id:
                return session
        return None

    def excuse(self, now: float) -> None:
        """This process stood still: nobody's silence or absence until now counts."""
        for session in self.sessions.values():
            session.seen_at = now
        for lease in self.leases.values():
            lease.expires_at = now + LEASE_S

    def renew_leases(self, now: float) -> list[str]:
        """Drop leases that have run out, and return whose; a worker seen loading keeps its own."""
        loading = {s.identity for s in self.sessions.values() if s.state == "loading"}
        expired = []
        for name, lease in list(self.leases.items()):
            if name in loading:
                lease.expires_at = now + LEASE_S
            elif now >= lease.expires_at:
                self._drop_lease(name)
                expired.append(name)
        return expired

    def _drop_lease(self, name: str) -> None:
        self._changes.resized.add(self.leases.pop(name).hello.models[0])

    def ready(self, pool: str) -> Iterator[Session]:
        for session in self.sessions.values():
            if session.state == "ready" and session.pool == pool:
                yield session

    def dispatchable(self, pool: str) -> list[Session]:
        """Those that can be given a job now."""
        return [s for s in self.ready(pool) if not (s.suspect or s.hung)]

    def capacity(self, pool: str) -> tuple[int, int]:
        """Slots and stream slots of one pool: live workers and those on lease."""
        slots = stream_slots = 0
        for session in self.ready(pool):
            slots += session.slots
            stream_slots += session.stream_slots
        for lease in self.leases.values():
            if lease.hello.models[0] == pool:
                slots += lease.hello.slots
                stream_slots += lease.hello.stream_slots
        return slots, stream_slots

    def available_hellos(self) -> list[Hello]:
        """What can be asked for now: ready workers and those on lease."""
        live = [s.hello for s in self.sessions.values() if s.state == "ready"]
        return live + [lease.hello for lease in self.leases.values()]

    def loading(self, model: str | None) -> Session | None:
        """A session on its way to serving `model` (any model when None)."""
        return self._in_state("loading", model)

    def draining(self, model: str | None) -> Session | None:
        """A session that has `model` and takes no more jobs."""
        return self._in_state("draining", model)

    def _in_state(self, state: WorkerState, model: str | None) -> Session | None:
        for session in self.sessions.values():
            wanted = not model or model in session.hello.models
            if session.state == state and wanted:
                return session
        return None

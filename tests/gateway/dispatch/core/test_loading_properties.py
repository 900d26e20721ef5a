"""Any order of requests, loads, failures, deaths and time on hosts that load on demand."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.dispatch.core.catalogues.demand import ASK_EVERY_S, refused
from gateway.dispatch.core.jobs import KINDS, Kind
from gateway.errors import ApiError
from shared.messages import Done, Load, Unload
from tests.gateway.dispatch.core.simulated_host import LOADING_TAKES_S, Model, SimulatedHost
from tests.gateway.dispatch.core.simulation import Simulation, run
from tests.properties import examples

QUEUE_SIZE = 4
NAMES = ("a", "b", "c")
KEPT = "k"
HOSTS = ("mac", "mini", "alone")
names, hosts = st.sampled_from((*NAMES, KEPT)), st.sampled_from(HOSTS)


class AskedHost(SimulatedHost):
    """One of several that all keep the rules, so that none is given up as one that does nothing."""

    def check_order(self, order: Load | Unload) -> None:
        super().check_order(order)
        view = self.simulation.core.view
        draining = {s.hello.supervisor for s in view.sessions.values() if s.state == "draining"}
        loading = {
            host.instance
            for host, entry in view.listing(order.model)
            if host.here and entry.status == "loading" and host.instance not in draining
        }
        if isinstance(order, Load) and loading:
            assert self.instance in loading, "one host loads it, and no two in turn"


class LoadingMachine(RuleBasedStateMachine):
    """Two hosts, on each of which two of three models fit; `c` stands in one catalogue only. And
    one that keeps a model of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation(queue_size=QUEUE_SIZE, queue_timeout_s=12)
        self.hosts = {name: self._start(name) for name in HOSTS}

    def _start(self, name: str) -> SimulatedHost:
        if name == "alone":
            return AskedHost(self.simulation, name, 10, Model(KEPT, 4, kept=True))
        listed = NAMES if name == "mac" else NAMES[:2]
        models = [Model(model, 4) for model in listed]
        return AskedHost(self.simulation, name, 10, *models)

    def _is_up(self, host: SimulatedHost) -> bool:
        return host.routing_id in self.simulation.hosts

    # --- what happens ----------------------------------------------------------------------

    @rule(model=names, kind=st.sampled_from(KINDS))
    def request(self, model: str, kind: Kind) -> None:
        stream, only_counts = kind == "streaming", kind == "counting"
        try:
            self.simulation.request(model=model, stream=stream, only_counts=only_counts)
        except ApiError as refusal:
            assert refusal.status in (404, 429, 503)

    @rule(number=st.integers(0, 30))
    def cancel(self, number: int) -> None:
        clients = list(self.simulation.clients.values())
        if clients:
            self.simulation.cancel(clients[number % len(clients)])

    @rule(model=names)
    def order(self, model: str) -> None:
        try:
            self.simulation.order_model(model, "load")
        except ApiError as refusal:
            assert refusal.status in (404, 503)

    @rule(model=names)
    def order_to_unload(self, model: str) -> None:
        try:
            self.simulation.order_model(model, "unload")
        except ApiError as refusal:
            assert refusal.status in (400, 404, 503)

    @rule(times=st.integers(1, 8))
    def work(self, times: int) -> None:
        run(self.simulation, times)

    @rule(host=hosts, model=names)
    def another_gateway_asks(self, host: str, model: str) -> None:
        there = self._is_up(self.hosts[host]) and model in self.hosts[host].models
        if there and model != KEPT:
            self.hosts[host].obey(Load(model=model))
            self.hosts[host].tell()

    @rule(host=hosts, model=names, broken=st.booleans(), pinned=st.booleans())
    def break_or_pin(self, host: str, model: str, broken: bool, pinned: bool) -> None:
        there = self.hosts[host].models.get(model)
        if there is not None and self._is_up(self.hosts[host]):
            there.broken, there.pinned = broken, pinned
            self.hosts[host].tell()

    @rule(host=hosts, model=names)
    def kill_an_engine(self, host: str, model: str) -> None:
        there = self.hosts[host].models.get(model)
        if there is not None and self._is_up(self.hosts[host]):
            self.hosts[host].end_engine(there)
            self.simulation.tick()
            self.hosts[host].tell()

    @rule(host=hosts, in_order=st.booleans())
    def stop_a_host(self, host: str, in_order: bool) -> None:
        if self._is_up(self.hosts[host]):
            (self.hosts[host].leave if in_order else self.hosts[host].die)()
            self.simulation.tick()

    @rule(host=hosts)
    def start_a_host(self, host: str) -> None:
        if not self._is_up(self.hosts[host]):
            self.hosts[host] = self._start(host)

    @rule(host=hosts, cut=st.booleans())
    def cut_or_mend(self, host: str, cut: bool) -> None:
        routing_id = self.hosts[host].routing_id
        (self.simulation.deaf.add if cut else self.simulation.deaf.discard)(routing_id)

    @rule(seconds=st.sampled_from([0.1, 0.9, LOADING_TAKES_S, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.simulation.pass_time(seconds)

    @rule()
    def stand_still(self) -> None:
        self.simulation.stand_still(4.0)

    # --- what holds ------------------------------------------------------------------------

    @invariant()
    def a_host_is_asked_for_whatever_somebody_waits_for(self) -> None:
        simulation, view = self.simulation, self.simulation.core.view
        served = {session.pool for session in view.sessions.values() if session.state == "ready"}
        served |= {hello.models[0] for hello in view.available()}
        for record in view.jobs.values():
            options = view.listing(record.pool)
            able = [host for host, entry in options if host.here and not refused(entry)]
            if record.session is None and record.pool not in served and able:
                assert simulation.asked_at[record.pool] >= simulation.now - ASK_EVERY_S

    @invariant()
    def nobody_waits_where_every_host_refuses(self) -> None:
        view = self.simulation.core.view
        free = {hello.models[0] for hello in view.available()}
        for record in view.jobs.values():
            options = view.listing(record.pool)
            if record.session is None and record.pool not in free and options:
                assert not all(refused(entry) for _, entry in options)

    @invariant()
    def nobody_waits_beyond_the_deadline(self) -> None:
        for record in self.simulation.core.view.jobs.values():
            assert self.simulation.now < record.deadline_at

    @invariant()
    def every_client_is_told_one_end(self) -> None:
        for client in self.simulation.clients.values():
            assert len(client.ends) <= 1
            if client.ends and isinstance(client.ends[0], Done):
                assert client.tokens == list(range(8))

    @invariant()
    def counters_balance(self) -> None:
        simulation, view = self.simulation, self.simulation.core.view
        assert len(simulation.clients) == len(simulation.ended) + len(view.jobs)
        assert 0 <= view.waiting <= QUEUE_SIZE

    @invariant()
    def no_host_takes_more_memory_than_it_may(self) -> None:
        for host in self.hosts.values():
            assert host.used <= host.budget

    def teardown(self) -> None:
        """Whatever happened, with healthy hosts and time all who wait are answered."""
        simulation = self.simulation
        simulation.deaf.clear()
        for name, host in self.hosts.items():
            if not self._is_up(host):
                self.hosts[name] = self._start(name)
            for model in self.hosts[name].models.values():
                model.broken = model.pinned = False
        for _ in range(60):
            simulation.pass_time(0.5)
            run(simulation, 2)
        view = simulation.core.view
        assert not view.jobs and view.active == view.waiting == 0
        assert not any(view.is_asked_for(model) for model in (*NAMES, KEPT))


TestLoading = LoadingMachine.TestCase
TestLoading.settings = settings(
    max_examples=examples(80),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

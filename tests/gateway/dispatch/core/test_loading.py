"""Models that are loaded when they are asked for: one plain story per test."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.dispatch.core.acts import OrderModel
from gateway.dispatch.core.catalogues.hosts import MAX_HOSTS, MAX_NAME_CHARACTERS
from gateway.dispatch.core.jobs import Phase
from gateway.dispatch.core.sessions import GONE_FOR_NOW_S
from gateway.errors import (
    DeadlinePassed,
    InvalidRequest,
    ModelTooLarge,
    NoMemory,
    NotFound,
    NoWorker,
    QueueFull,
)
from scripts.simulated_worker import SimulatedWorker
from shared.messages import (
    Catalogue,
    CatalogueEntry,
    Goodbye,
    Heartbeat,
    Load,
    Message,
    Ping,
    Unload,
    Welcome,
)
from tests.gateway.dispatch.core.simulated_host import LOADING_TAKES_S, Model, SimulatedHost
from tests.gateway.dispatch.core.simulation import Client, Simulation, finished, run


def one_host(
    *models: Model, budget: int = 10, slots: int = 1, queue_timeout_s: float = 30.0
) -> tuple[Simulation, SimulatedHost]:
    simulation = Simulation(queue_timeout_s=queue_timeout_s)
    return simulation, SimulatedHost(simulation, "mac", budget, *models, slots=slots)


def live(simulation: Simulation, seconds: float, step_s: float = 0.5) -> None:
    """Time passes, and whoever has jobs works on them."""
    for _ in range(round(seconds / step_s)):
        simulation.pass_time(step_s)
        run(simulation, 2)


def loads(host: SimulatedHost) -> list[str]:
    return [message.model for message in host.heard if isinstance(message, Load)]


def answered(client: Client) -> bool:
    return finished(client)


# --- waiting for a load ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_job_for_an_unloaded_model_waits_until_it_is_loaded(stream: bool) -> None:
    simulation, host = one_host(Model("a", 6), Model("b", 6))
    client = simulation.request(model="b", stream=stream)
    assert not client.record.active and simulation.core.view.waiting == 1
    assert loads(host) == ["b"]
    live(simulation, LOADING_TAKES_S + 6)
    assert answered(client) and host.models["b"].loads == 1


def test_a_host_is_asked_once_a_second_for_as_long_as_somebody_waits() -> None:
    simulation, host = one_host(Model("a", 6))
    client = simulation.request(model="a")
    host.models["a"].ready_at = simulation.now + 100
    for _ in range(40):
        simulation.pass_time(0.1)
    assert 4 <= len(loads(host)) <= 5
    simulation.cancel(client)
    host.heard.clear()
    live(simulation, 3)
    assert not loads(host)


def test_nobody_is_asked_while_somebody_serves_the_model() -> None:
    simulation, host = one_host(Model("m", 6))
    simulation.connect(SimulatedWorker("plain"))
    clients = [simulation.request() for _ in range(3)]
    live(simulation, 8)
    assert all(map(answered, clients)) and not loads(host)


def test_an_alias_waits_for_its_model() -> None:
    simulation, host = one_host(Model("a", 6, aliases=["gpt-4o"]))
    assert simulation.request(model="gpt-4o").record.pool == "a"
    assert loads(host) == ["a"]


def test_a_first_name_goes_before_an_alias() -> None:
    simulation, _ = one_host(Model("a", 6, aliases=["b"]), Model("b", 6))
    assert simulation.request(model="b").record.pool == "b"


def test_a_model_may_be_left_out_only_when_one_is_listed() -> None:
    simulation, _ = one_host(Model("a", 6))
    assert simulation.request(model=None).record.pool == "a"
    SimulatedHost(simulation, "mini", 10, Model("b", 6))
    with pytest.raises(InvalidRequest, match="a, b"):
        simulation.request(model=None)


def test_a_name_that_nobody_lists_is_unknown() -> None:
    simulation, _ = one_host(Model("a", 6))
    with pytest.raises(NotFound, match="Available: a "):
        simulation.request(model="z")


def test_the_queue_bounds_who_waits_for_a_load() -> None:
    simulation, _ = one_host(Model("a", 6))
    for _ in range(4):
        simulation.request(model="a")
    for stream in (False, True):
        with pytest.raises(QueueFull):
            simulation.request(model="a", stream=stream)


def test_a_model_is_loaded_for_who_is_turned_away_and_told_to_come_back() -> None:
    simulation = Simulation(queue_size=0)
    host = SimulatedHost(simulation, "mac", 10, Model("a", 6))
    with pytest.raises(QueueFull):
        simulation.request(model="a")
    live(simulation, LOADING_TAKES_S + 1)
    client = simulation.request(model="a")
    live(simulation, 6)
    assert answered(client) and host.models["a"].loads == 1


def test_only_so_many_streams_wait_for_a_load_as_it_has_slots_for() -> None:
    simulation, _ = one_host(Model("a", 6), slots=2)
    clients = [simulation.request(model="a", stream=True) for _ in range(2)]
    with pytest.raises(QueueFull):
        simulation.request(model="a", stream=True)
    live(simulation, LOADING_TAKES_S + 6)
    assert all(map(answered, clients))


def test_counting_tokens_waits_for_a_load_too() -> None:
    simulation, host = one_host(Model("a", 6))
    client = simulation.request(model="a", only_counts=True)
    assert loads(host) == ["a"]
    live(simulation, LOADING_TAKES_S + 1)
    assert client.accepted and client.record.outcome == "finished"


def test_a_loaded_model_whose_slots_another_gateway_holds_is_a_loaded_one() -> None:
    simulation, host = one_host(Model("a", 6), queue_timeout_s=10)
    simulation.order_model("a", "load")
    simulation.pass_time(LOADING_TAKES_S)
    engine = host.models["a"].engine
    assert engine is not None
    full = Heartbeat(state="ready", free_slots=0, free_stream_slots=0, active=2)
    simulation.say(engine, full)
    with pytest.raises(QueueFull):
        simulation.request(model="a", stream=True)
    waiting = simulation.request(model="a")
    for _ in range(11):
        simulation.say(engine, full)
        simulation.now += 1
        host.tell()
        simulation.tick()
    (error,) = waiting.ends
    assert isinstance(error, DeadlinePassed) and "waited in the queue" in error.message


def test_a_job_is_sent_under_a_name_that_its_engine_knows() -> None:
    simulation, _ = one_host(Model("a", 6, aliases=["new"]))
    client = simulation.request(model="new", submit=False)
    simulation.submit(client, model="new")
    simulation.pass_time(LOADING_TAKES_S)
    (engine,) = simulation.workers.values()
    assert engine.hello().models == ["a"]
    assert [run.job.model for run in engine.runs.values()] == ["a"]


def test_two_hosts_do_not_load_models_in_turn() -> None:
    simulation = Simulation()
    hosts = [
        SimulatedHost(simulation, name, 10, *(Model(model, 6) for model in "ab"))
        for name in ("mac", "mini")
    ]
    for _ in range(20):
        clients = [simulation.request(model=model) for model in "ab"]
        live(simulation, 3)
    assert all(map(answered, clients))
    assert sum(model.loads for host in hosts for model in host.models.values()) == 2


# --- room --------------------------------------------------------------------------------------


def test_the_host_with_room_and_the_most_free_memory_is_asked() -> None:
    simulation = Simulation()
    full = SimulatedHost(simulation, "full", 30, Model("old", 25), Model("a", 6))
    simulation.request(model="old")
    live(simulation, LOADING_TAKES_S + 6)
    small = SimulatedHost(simulation, "small", 10, Model("a", 6))
    large = SimulatedHost(simulation, "large", 20, Model("a", 6))
    for host in (full, small, large):
        host.heard.clear()
    simulation.request(model="a")
    live(simulation, 4)
    assert loads(large) and not loads(small) and not loads(full)


def test_who_waits_behind_busy_models_gets_the_room_when_they_fall_idle() -> None:
    simulation, host = one_host(Model("a", 6), Model("b", 6))
    busy = simulation.request(model="a")
    simulation.pass_time(LOADING_TAKES_S)
    assert busy.phase() is Phase.RUNNING
    waiting = simulation.request(model="b")
    simulation.pass_time(3)
    assert busy.phase() is Phase.RUNNING and waiting.phase() is Phase.READY
    live(simulation, 14)
    assert answered(busy) and answered(waiting)
    assert host.models["a"].engine is None


def test_who_waits_behind_a_busy_model_in_vain_is_told_what_holds_the_memory() -> None:
    simulation, _ = one_host(Model("a", 6 << 30), Model("b", 6 << 30), budget=10 << 30)
    simulation.request(model="a", stream=True)
    simulation.pass_time(LOADING_TAKES_S)
    waiting = simulation.request(model="b")
    engine = next(iter(simulation.workers.values()))
    for _ in range(7):
        simulation.step(engine)
        simulation.pass_time(4.5)
    (error,) = waiting.ends
    assert isinstance(error, NoMemory) and error.status == 503 and error.code == "no_memory"
    assert "6.0 GiB" in error.message and "10.0 GiB" in error.message
    assert "4.0 GiB are free" in error.message and "a (6.0 GiB, busy)" in error.message
    assert error.headers["Retry-After"].isdigit()


def test_a_deadline_does_not_speak_of_memory_where_that_is_not_the_matter() -> None:
    simulation, host = one_host(Model("a", 6), queue_timeout_s=5)
    waiting = simulation.request(model="a")
    host.die()
    live(simulation, 5.5)
    (error,) = waiting.ends
    assert isinstance(error, NoWorker) and "mac" in error.message
    Liar(simulation, catalogue(entry("b")))
    waiting = simulation.request(model="b")
    live(simulation, 5.5)
    (error,) = waiting.ends
    assert isinstance(error, DeadlinePassed) and "liar" in error.message


def test_a_deadline_while_the_model_loads_says_how_far_it_was() -> None:
    simulation, host = one_host(Model("a", 6), queue_timeout_s=5)
    waiting = simulation.request(model="a")
    host.models["a"].ready_at = simulation.now + 100
    live(simulation, 5.5)
    (error,) = waiting.ends
    assert isinstance(error, DeadlinePassed) and "still loading" in error.message


def test_a_model_that_can_never_fit_is_a_wrong_request() -> None:
    simulation, _ = one_host(Model("a", 40 << 30), budget=24 << 30)
    with pytest.raises(ModelTooLarge) as refusal:
        simulation.request(model="a")
    assert (refusal.value.status, refusal.value.code) == (400, "model_too_large")
    assert refusal.value.param == "model"
    assert "40.0 GiB" in refusal.value.message and "24.0 GiB" in refusal.value.message


def test_pinned_models_in_the_way_are_named_at_once() -> None:
    simulation, _ = one_host(Model("a", 6, pinned=True), Model("b", 6))
    simulation.request(model="a")
    live(simulation, LOADING_TAKES_S + 6)
    with pytest.raises(NoMemory, match=r"a \(6 bytes, pinned\)"):
        simulation.request(model="b")


def test_who_waits_is_told_when_pinned_models_come_into_the_way() -> None:
    simulation, host = one_host(Model("a", 6), Model("b", 6))
    simulation.request(model="a")
    simulation.pass_time(LOADING_TAKES_S)
    waiting = simulation.request(model="b", submit=False)
    host.models["a"].pinned = True
    host.tell()
    assert isinstance(waiting.ends[0], NoMemory)


# --- failures ----------------------------------------------------------------------------------


def test_everybody_who_waits_for_a_failed_load_is_told_why() -> None:
    simulation, host = one_host(Model("a", 6, broken=True))
    clients = [simulation.request(model="a") for _ in range(3)]
    live(simulation, LOADING_TAKES_S + 0.5)
    for client in clients:
        (error,) = client.ends
        assert isinstance(error, NoWorker) and error.status == 503
        assert "it is broken" in error.message
    with pytest.raises(NoWorker) as refusal:
        simulation.request(model="a")
    assert int(refusal.value.headers["Retry-After"]) > 1
    live(simulation, 10)
    host.models["a"].broken = False
    client = simulation.request(model="a")
    live(simulation, LOADING_TAKES_S + 6)
    assert answered(client)


def test_another_host_that_lists_it_loads_what_has_failed_on_one() -> None:
    simulation = Simulation()
    broken = SimulatedHost(simulation, "broken", 20, Model("a", 6, broken=True))
    client = simulation.request(model="a")
    good = SimulatedHost(simulation, "good", 10, Model("a", 6))
    live(simulation, 2 * LOADING_TAKES_S + 6)
    assert answered(client)
    assert broken.models["a"].loads == good.models["a"].loads == 1


def test_a_host_that_dies_while_loading_leaves_the_model_to_another() -> None:
    simulation = Simulation()
    first = SimulatedHost(simulation, "first", 20, Model("a", 6))
    second = SimulatedHost(simulation, "second", 10, Model("a", 6))
    client = simulation.request(model="a")
    assert loads(first) and not loads(second)
    first.die()
    live(simulation, LOADING_TAKES_S + 10)
    assert answered(client)


def test_who_waits_for_a_host_that_died_goes_on_when_it_is_back() -> None:
    simulation, host = one_host(Model("a", 6))
    client = simulation.request(model="a")
    host.die()
    live(simulation, 6)
    assert not client.ends
    late = simulation.request(model="a")
    SimulatedHost(simulation, "mac", 10, Model("a", 6))
    live(simulation, LOADING_TAKES_S + 12)
    assert answered(client) and answered(late)


def test_who_waits_for_a_host_that_does_not_come_back_is_told() -> None:
    simulation, host = one_host(Model("a", 6), queue_timeout_s=300)
    client = simulation.request(model="a")
    host.die()
    live(simulation, 30)
    (error,) = client.ends
    assert isinstance(error, NoWorker)


def test_a_loaded_engine_that_dies_with_its_host_is_not_waited_for_elsewhere() -> None:
    simulation, host = one_host(Model("a", 6))
    client = simulation.request(model="a")
    simulation.pass_time(LOADING_TAKES_S)
    assert client.phase() is Phase.RUNNING
    host.die()
    simulation.pass_time(0.5)
    SimulatedHost(simulation, "mac", 10, Model("a", 6))
    live(simulation, LOADING_TAKES_S + 8)
    assert answered(client)


def test_a_model_that_leaves_every_catalogue_ends_the_wait_for_it() -> None:
    simulation, host = one_host(Model("a", 6), Model("b", 6))
    waiting, other = (simulation.request(model=name, submit=False) for name in "ab")
    left = host.models.pop("a")
    host.tell()
    assert not waiting.ends, "its engine may still be on its way"
    host.unload(left)
    simulation.tick()
    (error,) = waiting.ends
    assert isinstance(error, NotFound) and not other.ends


def test_a_host_that_leaves_ends_the_wait_for_what_it_alone_listed() -> None:
    simulation, host = one_host(Model("a", 6, aliases=["x"]))
    simulation.connect(SimulatedWorker("plain"))
    waiting = simulation.request(model="a")
    host.leave()
    assert isinstance(waiting.ends[0], NoWorker)
    with pytest.raises(NoWorker) as missed:
        simulation.request(model="x")
    assert missed.value.headers["Retry-After"]
    live(simulation, GONE_FOR_NOW_S + 1)
    with pytest.raises(NotFound):
        simulation.request(model="a")


def test_a_job_whose_engine_is_unloaded_goes_back_to_the_line_and_is_asked_for() -> None:
    simulation, host = one_host(Model("a", 6))
    client = simulation.request(model="a")
    simulation.pass_time(LOADING_TAKES_S)
    assert client.phase() is Phase.RUNNING
    host.heard.clear()
    host.unload(host.models["a"])
    simulation.tick()
    assert client.phase() is Phase.READY and loads(host) == ["a"]
    live(simulation, LOADING_TAKES_S + 8)
    assert answered(client)


def test_a_draining_engine_is_as_good_as_none() -> None:
    simulation, host = one_host(Model("a", 6))
    simulation.request(model="a")
    live(simulation, LOADING_TAKES_S + 6)
    host.heard.clear()
    engine = host.models["a"].engine
    assert engine is not None
    simulation.say(engine, Heartbeat(state="draining"))
    client = simulation.request(model="a")
    assert loads(host) == ["a"] and not client.ends


def test_another_host_is_asked_at_once_for_what_is_about_to_leave_one() -> None:
    simulation, host = one_host(Model("a", 6))
    simulation.order_model("a", "load")
    live(simulation, LOADING_TAKES_S + 1)
    other = SimulatedHost(simulation, "mini", 5, Model("a", 5))
    engine = host.models["a"].engine
    assert engine is not None
    simulation.say(engine, Heartbeat(state="draining"))
    host.heard.clear()
    simulation.request(model="a")
    assert loads(other) == ["a"] and not loads(host)


# --- hosts that do not keep the rules ----------------------------------------------------------


def entry(name: str = "a", **fields: object) -> CatalogueEntry:
    return replace(CatalogueEntry(name=name, status="unloaded", slots=1, stream_slots=1), **fields)


def catalogue(*entries: CatalogueEntry, **fields: object) -> Catalogue:
    liar = Catalogue(
        worker="liar", instance="liar-1", models=list(entries), memory_budget_bytes=1 << 50
    )
    return replace(liar, **fields)


class Liar:
    """Says the same whatever it is asked."""

    def __init__(self, simulation: Simulation, said: Catalogue) -> None:
        self.simulation = simulation
        self.said = said
        self.routing_id = b""
        self.heard: list[Message] = []
        simulation.join(self)

    def take(self, message: Message) -> list[Message]:
        self.heard.append(message)
        return []

    def tell(self) -> None:
        self.simulation.arrive(self.routing_id, self.said)

    def advance(self) -> None:
        self.tell()


@pytest.mark.parametrize("status", ["unloaded", "loading", "downloading", "loaded"])
def test_a_host_that_promises_and_does_nothing_is_asked_after_others(status: str) -> None:
    simulation = Simulation(queue_timeout_s=300)
    liar = Liar(simulation, catalogue(entry(status=status)))
    SimulatedHost(simulation, "honest", 10, Model("a", 6))
    client = simulation.request(model="a")
    assert any(isinstance(message, Load) for message in liar.heard)
    live(simulation, 140)
    assert answered(client)


def test_figures_without_measure_are_cut_down() -> None:
    simulation = Simulation(queue_timeout_s=5)
    liar = Liar(simulation, catalogue(entry(status="failed", retry_s=1e12)))
    with pytest.raises(NoWorker) as refusal:
        simulation.request(model="a")
    assert int(refusal.value.headers["Retry-After"]) <= 3600
    liar.said = catalogue(entry(status="loading", fraction=1e12))
    liar.tell()
    waiting = simulation.request(model="a")
    live(simulation, 6)
    assert "100% done" in str(waiting.ends[0])


@pytest.mark.parametrize(
    "bad",
    [
        catalogue(entry(), entry()),
        catalogue(entry("")),
        catalogue(entry("a\n")),
        catalogue(entry("a" * (MAX_NAME_CHARACTERS + 1))),
        catalogue(entry(aliases=["\x1b[31m"])),
        catalogue(entry(), worker=""),
        catalogue(entry(), instance=""),
    ],
)
def test_a_catalogue_that_cannot_be_shown_is_dropped(bad: Catalogue) -> None:
    simulation = Simulation()
    Liar(simulation, bad)
    assert not simulation.core.view.hosts
    assert simulation.core.view.dropped["bad_catalogue"] == 1


def test_hosts_and_what_they_list_are_bounded() -> None:
    simulation = Simulation()
    liars = [
        Liar(simulation, catalogue(entry(), instance=f"i{number}", worker=f"w{number}"))
        for number in range(MAX_HOSTS + 5)
    ]
    assert len(simulation.core.view.hosts) == MAX_HOSTS
    assert simulation.core.view.dropped["too_many_hosts"] == 5
    names = [entry(f"m{n}", aliases=[f"m{n}.{k}" for k in range(63)]) for n in range(1024)]
    liars[0].said = replace(liars[0].said, models=names)
    liars[0].tell()
    assert len(simulation.core.view.hosts[liars[0].routing_id].entries) == 1


def test_a_worker_cannot_be_a_host_under_the_same_routing_id() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a"))
    simulation.say(worker, catalogue(entry()))
    assert not simulation.core.view.hosts


def test_a_host_is_welcomed_once_pinged_and_let_go_when_it_falls_silent() -> None:
    simulation, host = one_host(Model("a", 6))
    host.tell()
    simulation.pass_time(1)
    assert [type(message) for message in host.heard] == [Welcome, Ping]
    simulation.deaf.add(host.routing_id)
    simulation.pass_time(3.5)
    assert not simulation.core.view.hosts[host.routing_id].here
    simulation.pass_time(21)
    assert not simulation.core.view.hosts


def test_a_gateway_that_stood_still_lets_no_host_go() -> None:
    simulation, host = one_host(Model("a", 6))
    simulation.stand_still(10)
    assert simulation.core.view.hosts[host.routing_id].here


def test_a_host_that_connects_anew_is_one_host() -> None:
    simulation, host = one_host(Model("a", 6))
    again = Liar(simulation, host.catalogue())
    assert list(simulation.core.view.hosts) == [again.routing_id]
    simulation.arrive(b"\0made up", host.catalogue())
    assert list(simulation.core.view.hosts) == [again.routing_id]
    assert simulation.core.view.dropped["late_catalogue"] == 1


# --- orders and idle limits --------------------------------------------------------------------


def test_an_order_to_load_is_kept_up_until_it_is_done() -> None:
    simulation, host = one_host(Model("a", 6, aliases=["x"]))
    simulation.order_model("x", "load")
    assert simulation.core.view.is_pending(OrderModel("a", "load"))
    live(simulation, LOADING_TAKES_S + 1)
    assert not simulation.core.view.is_pending(OrderModel("a", "load"))
    assert simulation.core.view.load_failure("a") is None
    assert host.models["a"].engine is not None


def test_an_order_to_load_is_given_up_with_its_reason() -> None:
    simulation, _ = one_host(Model("a", 6, broken=True), Model("b", 40))
    simulation.order_model("a", "load")
    live(simulation, LOADING_TAKES_S + 1)
    assert not simulation.core.view.is_pending(OrderModel("a", "load"))
    assert "it is broken" in str(simulation.core.view.load_failure("a"))
    with pytest.raises(ModelTooLarge):
        simulation.order_model("b", "load")
    with pytest.raises(NotFound):
        simulation.order_model("c", "load")


def test_an_order_to_load_that_finds_no_room_in_time_is_given_up() -> None:
    simulation, host = one_host(Model("a", 6), Model("b", 6), queue_timeout_s=5)
    simulation.order_model("a", "load")
    simulation.pass_time(LOADING_TAKES_S)
    simulation.request(model="a", stream=True)
    simulation.order_model("b", "load")
    for _ in range(6):
        run(simulation, 1)
        simulation.pass_time(1)
    assert not simulation.core.view.is_pending(OrderModel("b", "load"))
    assert isinstance(simulation.core.view.load_failure("b"), NoMemory)
    assert host.models["b"].loads == 0


def test_an_order_to_unload_goes_to_whoever_has_it() -> None:
    simulation, host = one_host(Model("a", 6))
    other = SimulatedHost(simulation, "mini", 5, Model("a", 6))
    simulation.order_model("a", "load")
    live(simulation, LOADING_TAKES_S + 1)
    order = OrderModel("a", "unload")
    simulation.deaf.add(host.routing_id)
    simulation.order_model("a", "unload")
    assert simulation.core.view.is_pending(order)
    simulation.deaf.clear()
    simulation.order_model("a", "unload")
    assert not simulation.core.view.is_pending(order)
    assert host.models["a"].engine is None
    assert not any(isinstance(message, Unload) for message in other.heard)
    live(simulation, 3)
    assert host.models["a"].loads == 1


def test_an_order_to_unload_takes_one_to_load_back() -> None:
    simulation, host = one_host(Model("a", 6), Model("b", 6), queue_timeout_s=5)
    simulation.order_model("a", "load")
    simulation.pass_time(LOADING_TAKES_S)
    simulation.request(model="a", stream=True)
    simulation.order_model("b", "load")
    simulation.order_model("b", "unload")
    view = simulation.core.view
    assert not view.is_pending(OrderModel("b", "load"))
    assert not view.is_pending(OrderModel("b", "unload"))
    assert Unload(model="b") in host.heard, "it was asked for it, and has said nothing of it yet"
    assert view.load_failure("b") is None, "nothing was tried in vain"
    simulation.order_model("b", "load")
    for _ in range(6):
        run(simulation, 1)
        simulation.pass_time(1)
    assert isinstance(view.load_failure("b"), NoMemory)


def test_an_order_to_unload_outlives_the_hosts_connection() -> None:
    simulation, host = one_host(Model("a", 6))
    simulation.order_model("a", "load")
    live(simulation, LOADING_TAKES_S + 1)
    order = OrderModel("a", "unload")
    simulation.deaf.add(host.routing_id)
    simulation.order_model("a", "unload")
    simulation.join(host)
    assert simulation.core.view.is_pending(order)
    host.unload(host.models["a"])
    host.tell()
    assert not simulation.core.view.is_pending(order)


def test_what_no_host_lists_cannot_be_unloaded() -> None:
    simulation = Simulation()
    simulation.connect(SimulatedWorker("plain"))
    simulation.order_model("m", "load")
    with pytest.raises(InvalidRequest):
        simulation.order_model("m", "unload")


def test_a_request_sets_the_idle_limit_of_a_model_to_be_loaded_and_of_a_loaded_one() -> None:
    simulation, host = one_host(Model("a", 6))
    simulation.request(model="a", idle_unload_s=60)
    assert host.models["a"].idle_unload_s == 60
    live(simulation, LOADING_TAKES_S + 6)
    host.heard.clear()
    for _ in range(3):
        simulation.request(model="a", idle_unload_s=90)
    assert loads(host) == ["a"] and host.models["a"].idle_unload_s == 90
    live(simulation, 8)
    simulation.request(model="a")
    assert loads(host) == ["a"]


def test_an_idle_limit_means_nothing_to_a_worker_without_a_catalogue() -> None:
    simulation = Simulation()
    simulation.connect(SimulatedWorker("plain"))
    client = simulation.request(idle_unload_s=60)
    run(simulation)
    assert answered(client)


def test_engines_of_one_host_with_its_name_do_not_push_each_other_out() -> None:
    simulation = Simulation()
    first, second = (SimulatedWorker("mac", model=name, supervisor="mac-1") for name in "ab")
    simulation.connect(first, replace(first.hello(), instance="mac-1.a"))
    simulation.vanish(first)
    simulation.say(first, Goodbye(returning=True))
    simulation.connect(second, replace(second.hello(), instance="mac-1.b"))
    assert [hello.models[0] for hello in simulation.core.view.on_lease()] == ["a"]

"""The engine thread: orders in, events out, and what is known of it from outside."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Sequence

import pytest

from shared.messages import Accepted, Cancelled, CountedTokens, Delta, Done, Job
from tests.waiting import await_condition
from tests.worker.running import TIMEOUT_S, job
from worker.engine.interface import (
    Engine,
    EngineEvent,
    EngineFactory,
    ModelError,
    ModelUnavailable,
    Report,
    WakeLoop,
)
from worker.engine.scripted import ScriptedEngine
from worker.loop import CountPrompt, Drop, EngineLoop, EngineThread, Output, Run

Published = queue.SimpleQueue[list[Output]]


@contextlib.contextmanager
def running_loop(make_engine: EngineFactory) -> Iterator[tuple[EngineLoop, Published]]:
    published: Published = queue.SimpleQueue()
    loop = EngineLoop(make_engine, published.put)
    engine = EngineThread(loop)
    engine.start()
    try:
        yield loop, published
    finally:
        loop.put(Run(job("the end", fault="crash"), ()))
        engine.join(TIMEOUT_S)
        assert not engine.is_alive()


def until(published: Published, kind: type[Output]) -> list[Output]:
    """What is published up to the first of that kind."""
    events: list[Output] = []
    while not any(isinstance(event, kind) for event in events):
        events += published.get(timeout=TIMEOUT_S)
    return events


def scripted(report: Report, wake: WakeLoop) -> Engine:
    return ScriptedEngine()


def test_a_job_comes_out_in_order_and_a_step_at_once() -> None:
    with running_loop(scripted) as (loop, published):
        loop.put(Run(job("a", tokens=6, burst=2), ()))
        accepted, *deltas, done = until(published, Done)
        assert isinstance(accepted, Accepted)
        assert isinstance(done, Done)
        assert [delta.tokens for delta in deltas if isinstance(delta, Delta)] == [
            [0, 1],
            [2, 3],
            [4, 5],
        ]


def test_prompts_are_counted_beside_a_running_job() -> None:
    with running_loop(scripted) as (loop, published):
        loop.put(Run(job("a", first_delay_s=3600), ()))
        loop.put(CountPrompt(job("b"), ()))
        assert [event.job for event in until(published, CountedTokens)] == ["a", "b"]


def test_a_drop_is_confirmed_where_there_was_something_to_drop() -> None:
    with running_loop(scripted) as (loop, published):
        loop.put(Run(job("a", first_delay_s=3600), ()))
        loop.put(Drop("never seen"))
        loop.put(Drop("a"))
        events = until(published, Cancelled)
        assert [event for event in events if isinstance(event, Cancelled)] == [Cancelled(job="a")]


def test_a_job_that_its_client_does_not_wait_for_any_more_is_not_begun() -> None:
    with running_loop(scripted) as (loop, published):
        loop.put(Run(job("late", first_delay_s=3600), (), time.monotonic() + 0.2))
        loop.put(Run(job("long", tokens=20, delay_s=0.02), (), time.monotonic() + 0.2))
        events = until(published, Done)
        assert [e.job for e in events if isinstance(e, Cancelled)] == ["late"]
        assert [e.job for e in events if isinstance(e, Done)] == ["long"], "it had begun"
        loop.put(Run(job("over", fault="crash"), (), time.monotonic()))
        loop.put(Run(job("next"), ()))
        assert [e.job for e in until(published, Done) if isinstance(e, Cancelled)] == ["over"]


def test_progress_is_seen_from_outside() -> None:
    with running_loop(scripted) as (loop, _):
        await_condition(lambda: loop.progress.state == "ready", "the loop runs")
        assert loop.progress.loaded_fraction == 1.0
        assert loop.progress.facts is not None
        assert loop.progress.facts.device == "script"
        steps = loop.progress.steps
        await_condition(lambda: loop.progress.steps > steps, "an idle loop turns")
        assert loop.progress.age_s() < TIMEOUT_S


class PreparingEngine(ScriptedEngine):
    """Has its jobs prepared beside the loop, by the test, as MLX's engine does with pictures."""

    def __init__(self, wake: WakeLoop) -> None:
        super().__init__()
        self.wake = wake
        self.prepares = True
        self.unprepared: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.prepared: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.idle_steps = 0

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        if self.prepares:
            self.unprepared.put(job)
        else:
            super().submit(job, images)

    def step(self) -> list[EngineEvent]:
        if self.prepared.empty():
            self.idle_steps += 1
        else:
            super().submit(self.prepared.get(), ())
        return super().step()

    def prepare(self) -> None:
        self.prepared.put(self.unprepared.get(timeout=TIMEOUT_S))
        self.wake()


def test_an_engine_wakes_the_loop_that_waits_for_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.loop.IDLE_TURN_S", 3600.0)  # it would not come round by itself
    engines: list[PreparingEngine] = []

    def make(report: Report, wake: WakeLoop) -> Engine:
        engines.append(PreparingEngine(wake))
        return engines[0]

    with running_loop(make) as (loop, published):
        loop.put(Run(job("a", tokens=1), ()))
        await_condition(lambda: engines and engines[0].idle_steps, "the loop has nothing to do")
        engines[0].prepare()
        assert isinstance(until(published, Done)[-1], Done)
        engines[0].prepares = False  # so that the loop can be ended


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (RuntimeError("device lost"), False),
        (ModelUnavailable("no net"), False),
        (ModelError("no such model"), True),
    ],
)
def test_a_dead_engine_thread_is_seen_to_be_dead(error: Exception, hopeless: bool) -> None:
    """Not a process that goes on to say that all is well: its link ends with the thread."""

    def unloadable(report: Report, wake: WakeLoop) -> Engine:
        raise error

    engine = EngineThread(EngineLoop(unloadable, lambda output: None))
    engine.start()
    engine.join(TIMEOUT_S)
    assert not engine.is_alive()
    assert (str(engine.hopeless) == str(error)) is hopeless

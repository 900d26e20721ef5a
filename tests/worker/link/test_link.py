"""The worker's end of the wire, in one process: real sockets, real threads, scripted answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from shared import wire
from shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    Control,
    CountedTokens,
    CountTokens,
    Delta,
    Deltas,
    Done,
    Failed,
    Goodbye,
    Heartbeat,
    Hello,
    Identify,
    M,
    Message,
    Ping,
    Rejected,
    Resume,
    Submit,
    Welcome,
)
from tests.hostile.strangers import Stranger, false_gateway
from tests.scripted import words
from tests.worker.running import (
    for_ever,
    job,
    running_worker,
    submit,
    welcome,
    worker_of_one,
)
from worker.engine.interface import Engine, Report, WakeLoop
from worker.engine.scripted import ScriptedEngine
from worker.link.draining import Ending
from worker.link.link import MAX_COUNTS


def rejection(gateway: Stranger, said: Submit | CountTokens) -> str:
    gateway.say(said)
    rejected = gateway.hear(Rejected)
    assert rejected.job == said.job.id
    return rejected.reason


def told(gateway: Stranger, end: type[M]) -> tuple[list[Delta], M]:
    """All deltas until a message of that kind, and the message."""
    deltas: list[Delta] = []
    while not isinstance(message := gateway.hear(Message), end):
        if isinstance(message, Deltas):
            deltas += message.items
    return deltas, message


def answer(gateway: Stranger) -> tuple[str, list[int], Done]:
    """The text and tokens of the one job that runs, in unbroken sequence, and its end."""
    deltas, done = told(gateway, Done)
    assert [delta.sequence for delta in deltas] == [*range(len(deltas))]
    assert {delta.job for delta in deltas} <= {done.job}
    tokens = [token for delta in deltas for token in delta.tokens]
    return "".join(delta.text for delta in deltas), tokens, done


# --- sessions ------------------------------------------------------------------------------


def test_a_session_opens_with_hello_and_restates_the_whole_truth() -> None:
    with false_gateway() as gateway, running_worker(gateway, max_concurrency=2, max_streams=3):
        hello = welcome(gateway, heartbeat_s=0.3)
        assert (hello.models, hello.slots, hello.stream_slots) == (["demo"], 2, 3)
        assert (hello.device, hello.context_tokens, hello.counts) == ("script", 1_000_000, True)
        gateway.say(submit("a", first_delay_s=3600))
        gateway.say(submit("b", first_delay_s=3600, stream=False))
        gateway.hear(Accepted)
        gateway.hear(Accepted)
        beat = gateway.hear(Heartbeat)
        assert (beat.streams, beat.jobs, beat.active) == (["a"], ["b"], 2)
        assert (beat.free_stream_slots, beat.free_slots) == (2, 1)
        gateway.say(Ping(gateway="g"))
        assert gateway.hear(Heartbeat).steps > beat.steps


def test_a_gateway_that_does_not_know_the_worker_is_greeted_anew() -> None:
    with worker_of_one(max_streams=1) as (gateway, _):
        gateway.say(for_ever("old"))
        gateway.hear(Accepted)
        gateway.say(Identify())
        welcome(gateway, "new", heartbeat_s=0.1)
        while gateway.hear(Heartbeat).free_stream_slots == 0:
            pass
        gateway.say(submit("next", tokens=3))  # into the one slot, which the old job held
        assert answer(gateway)[0] == words(3)


def test_a_gateway_of_another_name_has_started_anew() -> None:
    with worker_of_one(max_streams=1) as (gateway, _):
        gateway.say(for_ever("old"))
        gateway.hear(Accepted)
        gateway.say(Ping(gateway="another"))
        assert gateway.hear(Hello).state == "ready"


def test_the_jobs_of_a_silent_gateway_are_dropped() -> None:
    with (
        false_gateway() as silent,
        false_gateway() as patient,
        running_worker(silent, patient, max_streams=1),
    ):
        welcome(patient, "p")
        welcome(silent, "s", heartbeat_s=0.05)
        silent.say(for_ever("a"))
        silent.hear(Accepted)
        assert rejection(patient, for_ever("b")) == "no_slot"
        # It says nothing for three intervals, and hears that its session is over.
        silent.hear(Hello)
        while patient.hear(Heartbeat).free_stream_slots == 0:
            pass
        patient.say(for_ever("c"))
        assert patient.hear(Accepted).job == "c"


def test_two_gateways_share_the_slots_and_not_the_jobs() -> None:
    with (
        false_gateway() as first,
        false_gateway() as second,
        running_worker(first, second, max_streams=1),
    ):
        welcome(first, "1")
        welcome(second, "2")
        first.say(for_ever("a"))
        first.hear(Accepted)
        news = second.hear(Heartbeat)  # at once, not after its interval
        assert (news.free_stream_slots, news.active, news.streams) == (0, 1, [])
        assert rejection(second, for_ever("b")) == "no_slot"
        second.say(Cancel(jobs=["a"]))  # is not its own to cancel
        second.hear(Cancelled)
        assert rejection(second, for_ever("a")) == "no_slot"
        first.say(Cancel(jobs=["a"]))
        first.hear(Cancelled)
        assert second.hear(Heartbeat).free_stream_slots == 1


# --- jobs ----------------------------------------------------------------------------------


def test_a_job_is_answered_to_its_end() -> None:
    with worker_of_one() as (gateway, _):
        gateway.say(submit("a", tokens=20, burst=3))
        text, tokens, done = answer(gateway)
        assert (text, tokens) == (words(20), list(range(20)))
        assert done.usage.completion_tokens == 20


def test_a_resumed_job_goes_on_after_what_its_client_has() -> None:
    with worker_of_one() as (gateway, _):
        gateway.say(submit("a", tokens=10, resume=[Resume(tokens=[0, 1, 2])]))
        text, tokens, _done = answer(gateway)
        assert (words(3) + text, tokens) == (words(10), [*range(3, 10)])


def test_jobs_that_run_beside_each_other_are_told_in_one_message() -> None:
    with worker_of_one(max_streams=2) as (gateway, _):
        gateway.say(submit("a", tokens=10**6))
        gateway.say(submit("b", tokens=10**6))
        while {delta.job for delta in gateway.hear(Deltas).items} != {"a", "b"}:
            pass


def test_a_job_that_fails_leaves_after_what_it_had_said() -> None:
    with worker_of_one(max_streams=1) as (gateway, _):
        gateway.say(submit("a", tokens=9, fault="fail", at=3, code="out_of_memory"))
        deltas, failed = told(gateway, Failed)
        assert "".join(delta.text for delta in deltas) == words(3)
        assert (failed.job, failed.code) == ("a", "out_of_memory")
        gateway.say(submit("b", tokens=1))
        assert answer(gateway)[0] == words(1)


def test_a_cancelled_job_is_gone_and_so_is_one_never_seen() -> None:
    with worker_of_one(max_streams=1) as (gateway, _):
        gateway.say(for_ever("a"))
        gateway.hear(Accepted)
        gateway.say(Cancel(jobs=["never seen", "a"]))
        assert {gateway.hear(Cancelled).job for _ in range(2)} == {"a", "never seen"}
        gateway.say(submit("b", tokens=2))
        assert answer(gateway)[0] == words(2)


def test_what_cannot_be_taken_is_sent_back_with_the_reason() -> None:
    with worker_of_one(max_streams=1, max_concurrency=1) as (gateway, _):
        gateway.say(for_ever("a"))
        gateway.hear(Accepted)
        assert rejection(gateway, for_ever("b")) == "no_slot"
        assert rejection(gateway, for_ever("a", stream=False)) == "no_slot"  # the name is taken
        assert rejection(gateway, for_ever("c", stream=False, model="x")) == "unknown_model"
        gateway.say(submit("d", stream=False, tokens=1))  # the other kind's slot is free
        assert answer(gateway)[0] == words(1)


def test_prompts_are_counted_beside_full_slots_and_not_without_limit() -> None:
    def count(job_id: str, **script: Any) -> CountTokens:
        return CountTokens(job=job(job_id, **script))

    with worker_of_one(max_streams=1) as (gateway, _):
        gateway.say(for_ever("a"))
        gateway.hear(Accepted)
        gateway.say(count("b"))
        counted = gateway.hear(CountedTokens)
        assert counted.job == "b"
        assert counted.prompt_tokens > 0
        assert rejection(gateway, count("a")) == "no_slot"  # a job's name
        for number in range(MAX_COUNTS):
            gateway.say(count(f"c{number}", first_delay_s=3600))
        assert rejection(gateway, count("d")) == "no_slot"


# --- what is not of the protocol -----------------------------------------------------------


def test_garbage_is_dropped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with worker_of_one() as (gateway, _):
        submit_header, body = wire.encode(submit("a"))
        for frames in (
            [b""],
            [b"\x00", b"\xff" * 100],
            [submit_header, b"\xc1"],
            [submit_header, body, b"a picture that the job does not have"],
            [bytes((wire.VERSION + 1, Submit.type_code)), body],
            [bytes((wire.VERSION, Hello.type_code)), body],  # not a gateway's to say
            [b"x" * 1000] * 100,
        ):
            gateway.send(*frames)
        gateway.say(submit("b", tokens=4))
        assert answer(gateway)[0] == words(4)
    assert caplog.text.count("dropped a message") == 1


# --- beginning and end ---------------------------------------------------------------------


class Loading:
    """Of a scripted engine; the test ends it."""

    def __init__(self) -> None:
        self.loaded = threading.Event()

    def __call__(self, report: Report, wake: WakeLoop) -> Engine:
        report(0.25)
        assert self.loaded.wait(10)
        return ScriptedEngine()


def test_a_loading_worker_tells_how_far_it_is_and_takes_nothing() -> None:
    loading = Loading()
    with false_gateway() as gateway, running_worker(gateway, make_engine=loading):
        assert gateway.hear(Hello).device == ""
        gateway.say(Welcome(gateway="g", heartbeat_s=0.05))
        while gateway.hear(Heartbeat).loaded_fraction != 0.25:
            pass
        assert rejection(gateway, submit("a")) == "loading"
        assert rejection(gateway, CountTokens(job=job("a"))) == "loading"
        loading.loaded.set()
        # It says hello again: only now is it known what the model can do.
        assert gateway.hear(Hello).device == "script"


def test_an_operators_drain_ends_nothing_and_is_taken_back() -> None:
    with worker_of_one(max_streams=2) as (gateway, running):
        gateway.say(submit("a", tokens=100, delay_s=0.005))
        gateway.hear(Accepted)
        gateway.say(Control(action="drain"))
        while gateway.hear(Heartbeat).state != "draining":
            pass
        assert rejection(gateway, submit("b")) == "draining"
        assert gateway.hear(Done).job == "a"
        assert running.ended == []
        gateway.say(Control(action="resume"))
        while gateway.hear(Heartbeat).state != "ready":
            pass
        gateway.say(submit("c", tokens=1))
        assert answer(gateway)[0] == words(1)


def test_a_worker_told_to_stop_finishes_what_it_has() -> None:
    with worker_of_one(drain_timeout=60.0) as (gateway, running):
        gateway.say(submit("a", tokens=100, delay_s=0.005))
        gateway.hear(Accepted)
        running.link.drain()
        assert gateway.hear(Done).usage.completion_tokens == 100
        assert not gateway.hear(Goodbye).returning
        assert running.ending() is Ending.LEAVE


def test_what_does_not_end_in_time_is_handed_back() -> None:
    with worker_of_one(drain_timeout=0.0) as (gateway, running):
        gateway.say(for_ever("a"))
        gateway.hear(Accepted)
        running.link.drain()
        rejected = gateway.hear(Rejected)
        assert (rejected.job, rejected.reason) == ("a", "draining")
        gateway.hear(Goodbye)
        assert running.ending() is Ending.LEAVE


@pytest.mark.parametrize("cause", ["an order", "enough requests"])
def test_an_engine_that_is_renewed_says_that_it_comes_back(cause: str) -> None:
    with worker_of_one(recycle_after_requests=1) as (gateway, running):
        if cause == "an order":
            gateway.say(Control(action="restart"))
        else:
            gateway.say(submit("a", tokens=1))
        assert gateway.hear(Goodbye).returning
        assert running.ending() is Ending.RECYCLE


def test_a_dead_engine_says_no_goodbye_for_its_jobs_may_be_to_blame() -> None:
    with worker_of_one() as (gateway, running):
        gateway.say(submit("a", tokens=9, at=2, fault="crash"))
        running.ending()
        assert not running.engine.is_alive()
        while gateway.socket.poll(0):
            gateway.receive()
        assert not [said for said in gateway.heard if isinstance(said, Goodbye | Rejected)]

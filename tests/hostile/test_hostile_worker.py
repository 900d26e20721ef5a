"""A worker that lies, against a real gateway: it harms its own clients alone, and not for long.

`trap` is the model that only the hostile worker serves; `honest` is everybody else's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway.dispatch.core.jobs import MAX_FRUITLESS_RUNS
from shared.messages import (
    Accepted,
    Cancelled,
    Deltas,
    Done,
    Failed,
    Goodbye,
    Heartbeat,
    Hello,
    Identify,
    Rejected,
)
from tests.hostile.strangers import Stranger, false_worker, stranger, take_job
from tests.processes import Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition

HONEST = ("--engine", "scripted", "--served-model-name", "honest", "--max-concurrency", "8")
NAN = float("nan")
USAGE = {"prompt_tokens": 1, "completion_tokens": 1}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(
        workers=1,
        worker_flags=HONEST,
        gateway_flags=("--queue-timeout", "2", "--log-level", "debug"),
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def everybody_else_is_served(service: Service) -> Iterator[None]:
    """One answer goes on all through the attack, and another comes after it."""
    answers: list[httpx.Response] = []
    body = {**scripted(tokens=20, delay_s=0.01), "model": "honest"}
    client = threading.Thread(target=lambda: answers.append(service.ask(body)))
    client.start()
    yield
    client.join()
    assert answer_text(answers[0]) == words(20)
    after = service.ask({**scripted(tokens=3), "model": "honest"})
    assert answer_text(after) == words(3)
    await_condition(lambda: nobody_waits(service), "all slots free again")
    assert service.client.get(f"{service.url}/metrics").status_code == 200
    assert "Traceback" not in service.gateway.output()


def nobody_waits(service: Service) -> bool:
    stats = service.get("/v1/queue/stats")["queue_stats"]
    return bool(stats["active_requests"] == 0 and stats["queue_size"] == 0)


def asked(service: Service, act: Callable[[str], None], peer: Stranger) -> httpx.Response:
    """Ask the trap; let the hostile worker act on each submission until the client has its
    answer."""
    answers: list[httpx.Response] = []
    body = {**scripted(), "model": "trap"}
    client = threading.Thread(target=lambda: answers.append(service.ask(body)))
    client.start()
    while client.is_alive():
        try:
            job = take_job(peer, timeout_s=0.2)
        except AssertionError:
            continue
        act(job)
    client.join()
    return answers[0]


DELTAS: dict[str, Any] = {
    "no such choice": ["JOB", 0, 7, [1], "x"],
    "choice before the first": ["JOB", 0, -1, [1], "x"],
    "choice far before the first": ["JOB", 0, -17, [1], "x"],
    "choice beyond reason": ["JOB", 0, 2**63, [1], "x"],
    "sequence from the future": ["JOB", 2**40, 0, [1], "x"],
    "negative sequence": ["JOB", -1, 0, [1], "x"],
    "negative token": ["JOB", 0, 0, [-1], "x"],
    "token beyond any vocabulary": ["JOB", 0, 0, [2**62], "x"],
    "tokens that are none": ["JOB", 0, 0, ["a"], "x"],
    "odd finish": ["JOB", 0, 0, [1], "x", "because"],
    "negative call": ["JOB", 0, 0, [1], "", None, "", [[-5, "{}", "id", "f"]]],
    "not an array": {"job": "JOB"},
}


def with_job(value: Any, job: str) -> Any:
    if isinstance(value, list):
        return [with_job(item, job) for item in value]
    if isinstance(value, dict):
        return {key: with_job(item, job) for key, item in value.items()}
    return job if value == "JOB" else value


@pytest.mark.parametrize("name", DELTAS)
def test_odd_deltas(service: Service, name: str) -> None:
    with false_worker(service.worker_endpoint, "trap") as peer:

        def act(job: str) -> None:
            peer.say(Accepted(job=job, prompt_tokens=1))
            peer.claim(Deltas, items=[with_job(DELTAS[name], job)])
            peer.claim(Done, job=job, usage=USAGE, timings={})

        response = asked(service, act, peer)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "worker_failed"


ENDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "done before its end": (Done, {"usage": USAGE, "timings": {}}),
    "rejected as if loading": (Rejected, {"reason": "loading"}),
    "rejected as if draining": (Rejected, {"reason": "draining"}),
    "cancelled by nobody": (Cancelled, {}),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_job_is_not_tried_for_ever(service: Service, name: str) -> None:
    kind, fields = ENDS[name]
    rounds = 0
    with false_worker(service.worker_endpoint, "trap") as peer:

        def act(job: str) -> None:
            nonlocal rounds
            rounds += 1
            peer.claim(kind, job=job, **fields)

        response = asked(service, act, peer)
    assert response.json()["error"]["code"] in ("worker_failed", "timeout")
    assert rounds <= 20


def test_one_token_a_run_does_not_keep_a_job_going(service: Service) -> None:
    rounds = 0
    with false_worker(service.worker_endpoint, "trap") as peer:

        def act(job: str) -> None:
            nonlocal rounds
            rounds += 1
            peer.claim(Deltas, items=[[job, 0, 0, [1], "x"]])
            peer.claim(Cancelled, job=job)
            peer.claim(Heartbeat, state="ready", free_slots=4, free_stream_slots=4)

        response = asked(service, act, peer)
    assert response.json()["error"]["code"] == "worker_failed"
    assert rounds <= MAX_FRUITLESS_RUNS


COUNTS: dict[str, dict[str, Any]] = {
    "negative": {"usage": {"prompt_tokens": -1, "completion_tokens": -5}, "timings": {}},
    "absurd": {"usage": {"prompt_tokens": 2**63, "completion_tokens": 1}, "timings": {}},
    "no number": {"usage": USAGE, "timings": {"prefill_s": NAN, "total_s": float("inf")}},
    "negative time": {"usage": USAGE, "timings": {"prefill_s": -1.0}},
}


@pytest.mark.parametrize("name", COUNTS)
def test_false_accounts_stay_out_of_the_books(service: Service, name: str) -> None:
    with false_worker(service.worker_endpoint, "trap") as peer:

        def act(job: str) -> None:
            peer.claim(Deltas, items=[[job, 0, 0, [1], "x", "stop"]])
            peer.claim(Done, job=job, **COUNTS[name])
            peer.claim(Heartbeat, state="ready", gauges={"x": NAN, "y": float("inf")})
            beat = {"state": "ready", "free_slots": 4, "free_stream_slots": 4}
            peer.claim(Heartbeat, **beat)
            peer.claim(Heartbeat, **beat)

        response = asked(service, act, peer)
    assert response.json()["error"]["code"] in ("worker_failed", "timeout")
    metrics = service.client.get(f"{service.url}/metrics").text
    assert "NaN" not in metrics
    with service.client.stream("GET", f"{service.url}/v1/status/stream") as live:
        assert "NaN" not in next(live.iter_text())


def test_jobs_of_others_cannot_be_touched(service: Service) -> None:
    honest_run = {**scripted(tokens=40, delay_s=0.01), "model": "honest"}
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(service.ask(honest_run)))
    with (
        false_worker(service.worker_endpoint, "trap") as victim,
        false_worker(service.worker_endpoint, "other") as thief,
    ):
        client.start()
        mine: list[httpx.Response] = []
        body = {**scripted(), "model": "trap"}
        asking = threading.Thread(target=lambda: mine.append(service.ask(body)))
        asking.start()
        job = take_job(victim)
        for _ in range(3):
            thief.claim(Accepted, job=job, prompt_tokens=99)
            thief.claim(Deltas, items=[[job, 0, 0, [1], "stolen", "stop"]])
            thief.claim(Failed, job=job, code="internal_error", message="stolen")
            thief.claim(Rejected, job=job, reason="draining")
            thief.claim(Cancelled, job=job)
            thief.claim(Done, job=job, usage=USAGE, timings={})
            thief.claim(Heartbeat, state="ready", jobs=[job], active=1)
        victim.claim(Deltas, items=[[job, 0, 0, [1], "mine", "stop"]])
        victim.claim(Done, job=job, usage=USAGE, timings={})
        asking.join()
    client.join()
    assert answer_text(mine[0]) == "mine"
    assert answer_text(answers[0]) == words(40)


def test_an_answer_without_end_is_ended(service: Service) -> None:
    """Deltas without tokens and without end: bounded by the size of an answer."""
    with false_worker(service.worker_endpoint, "trap") as peer:

        def act(job: str) -> None:
            for sequence in range(200):
                peer.claim(Deltas, items=[[job, sequence, 0, [], "x" * 1_000_000]])

        response = asked(service, act, peer)
    assert response.status_code == 500


NAMES = ["a\x1b[31mred", "a\nlevel=critical forged", "a\u202etxt.exe", "a" * 10_000]
FACTS: dict[str, Any] = {"worker": "w", "models": ["trap"], "slots": 1, "stream_slots": 1}


def test_names_that_are_none_are_refused(service: Service) -> None:
    for name in NAMES:
        for field in ("worker", "instance", "host", "device"):
            refuse_hello(service, FACTS | {field: name})
        refuse_hello(service, FACTS | {"models": ["trap", name]})
        refuse_hello(service, FACTS | {"versions": {name: "1"}})
        refuse_hello(service, FACTS | {"proven": {name: True}})
    refuse_hello(service, FACTS | {"worker": ""})
    refuse_hello(service, FACTS | {"models": [""]})


HELLOS: list[dict[str, Any]] = [
    {"slots": 2**40},
    {"slots": -1},
    {"stream_slots": -1},
    {"models": []},
    {"models": [f"m{n}" for n in range(5000)]},
    {"stall_timeout_s": -1.0},
    {"stall_timeout_s": NAN},
    {"state": "great"},
]


def test_absurd_hellos_are_refused(service: Service) -> None:
    for absurd in HELLOS:
        refuse_hello(service, FACTS | absurd)


def refuse_hello(service: Service, facts: dict[str, Any]) -> None:
    with stranger(service.worker_endpoint) as peer:
        peer.claim(Hello, **({"state": "ready"} | facts))
        peer.claim(Cancelled, job="x")
        peer.hear(Identify)
    present = [w["id"] for w in service.worker_states() if w["state"] != "restarting"]
    assert len(present) == 1


def test_a_worker_that_comes_and_goes_under_new_names_leaves_little(service: Service) -> None:
    """Each goodbye leaves a lease; they are bounded."""
    with stranger(service.worker_endpoint) as peer:
        for number in range(3000):
            peer.say(
                Hello(worker=f"w{number}", models=["x"], slots=9, stream_slots=9, state="ready")
            )
            peer.say(Goodbye(returning=True))
        peer.claim(Cancelled, job="x")
        peer.hear(Identify, timeout_s=30)
    assert len(service.worker_states()) <= 200

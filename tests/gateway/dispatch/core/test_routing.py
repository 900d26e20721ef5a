"""Which worker takes a job, and what it costs to ask."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gateway.dispatch.core import routing
from gateway.dispatch.core.changes import Changes
from gateway.dispatch.core.sessions import Session
from scripts.simulated_worker import SimulatedWorker
from shared.messages import ChatMessage, Job, Sampling, TextPart

WORKERS = 100


def job(text: str, **fields: Any) -> Job:
    turn = ChatMessage(role="user", content=[TextPart(text=text)])
    return Job("j", "j", "r", "m", True, Sampling(seed=1), messages=[turn], **fields)


def sessions(count: int) -> list[Session]:
    hellos = [SimulatedWorker(f"worker-{number}").hello() for number in range(count)]
    return [Session(b"%d" % n, hello, "ready", 0.0, Changes()) for n, hello in enumerate(hellos)]


def test_a_prompts_head_is_hashed_once_however_many_workers_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths: list[int] = []
    digest = hashlib.blake2b

    def counted(data: bytes, **options: Any) -> Any:
        lengths.append(len(data))
        return digest(data, **options)

    monkeypatch.setattr(hashlib, "blake2b", counted)
    assert routing.choose(job("x" * 1_000_000), "streaming", sessions(WORKERS))
    assert sum(lengths) < routing.HEAD_CHARACTERS + 64 * WORKERS


def test_a_conversation_stays_where_it_was_when_others_come_and_go() -> None:
    fleet = sessions(WORKERS)
    chosen = {text: routing.choose(job(text), "streaming", fleet) for text in map(str, range(50))}
    assert len({id(session) for session in chosen.values()}) > 10
    for text, session in chosen.items():
        rest = [other for other in fleet if other is session or int(other.routing_id) % 2]
        assert routing.choose(job(text), "streaming", rest) is session


def test_tenants_and_openings_are_told_apart() -> None:
    keys = {
        routing.affinity_key(each)
        for each in (job("a"), job("b"), job("a", cache_salt="t"), job("a" * 3000))
    }
    assert len(keys) == 4
    assert routing.affinity_key(job("a" * 2000)) == routing.affinity_key(job("a" * 3000))

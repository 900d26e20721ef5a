"""Counting a prompt's tokens: outside the slots, bounded, and not lost with a worker."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dispatch.core.counting import MOST_ASKED, MOST_PROMPTS, Counting, PromptRecord
from gateway.dispatch.core.dispatcher import Effect, Send, Tell
from gateway.dispatch.core.sessions import Registry, Session
from gateway.errors import DeadlinePassed, InvalidRequest, NoWorker, QueueFull, WorkerFailed
from shared.messages import (
    Accepted,
    CountedTokens,
    CountTokens,
    Failed,
    Hello,
    Job,
    Message,
    Rejected,
    Sampling,
)

TIMEOUT_S = 10.0


class Desk:
    """Counting with workers whose messages the test writes."""

    def __init__(self, *workers: str, counts: bool = True) -> None:
        self.registry = Registry()
        self.effects: list[Effect] = []
        self.counting = Counting(self.registry, self.effects, TIMEOUT_S)
        self.sessions = {name: self.connect(name, counts) for name in workers}
        self._number = 0

    def connect(self, name: str, counts: bool = True) -> Session:
        hello = Hello(
            worker=name, models=["m"], slots=0, stream_slots=0, state="ready", counts=counts
        )
        return self.registry.open(name.encode(), hello, 0.0)

    def leave(self, name: str) -> None:
        self.registry.close(self.sessions[name], 0.0, returning=True)

    def ask(self, images: tuple[bytes, ...] = ()) -> PromptRecord:
        self._number += 1
        record = self.counting.reserve(f"p{self._number}", f"r{self._number}", "m", 0.0)
        job = Job(
            id=record.id,
            answer_id=record.id,
            request_id=record.request_id,
            model="m",
            stream=False,
            sampling=Sampling(seed=1),
            prompt="x",
        )
        self.counting.submit(record, job, images)
        return record

    def asked(self) -> list[tuple[str, str]]:
        """Who was asked about which run since the last look."""
        found = [
            (effect.routing_id.decode(), effect.message.job.id)
            for effect in self.effects
            if isinstance(effect, Send) and isinstance(effect.message, CountTokens)
        ]
        self.effects[:] = [effect for effect in self.effects if isinstance(effect, Tell)]
        return found

    def told(self) -> dict[str, Any]:
        news = {effect.job_id: effect.news for effect in self.effects if isinstance(effect, Tell)}
        self.effects[:] = [effect for effect in self.effects if not isinstance(effect, Tell)]
        return news

    def says(self, name: str, message: Message) -> bool:
        return self.counting.message(self.sessions[name], message)


def test_a_count_needs_no_slot_and_brings_its_images() -> None:
    desk = Desk("a")
    record = desk.ask(images=(b"png",))
    (send,) = desk.effects
    assert isinstance(send, Send) and send.images == (b"png",)
    ((_, run),) = desk.asked()
    assert desk.says("a", CountedTokens(job=run, prompt_tokens=7))
    assert desk.told() == {record.id: Accepted(job=record.id, prompt_tokens=7)}
    assert not desk.says("a", CountedTokens(job=run, prompt_tokens=7))


def test_a_worker_is_asked_about_a_few_at_once_and_the_rest_wait_in_order() -> None:
    desk = Desk("a", "b")
    records = [desk.ask() for _ in range(2 * MOST_ASKED + 2)]
    asked = desk.asked()
    assert [name for name, _ in asked] == ["a", "b"] * MOST_ASKED
    desk.says(*(asked[0][0], CountedTokens(job=asked[0][1], prompt_tokens=1)))
    assert desk.asked() == [("a", f"{records[2 * MOST_ASKED].id}.1")]


def test_there_is_room_for_so_many_and_no_more() -> None:
    desk = Desk("a")
    records = [desk.ask() for _ in range(MOST_PROMPTS)]
    with pytest.raises(QueueFull):
        desk.ask()
    desk.counting.cancel(records[-1])
    desk.ask()


def test_whoever_leaves_is_not_told_and_the_worker_stays_busy_until_it_answers() -> None:
    desk = Desk("a")
    records = [desk.ask() for _ in range(MOST_ASKED)]
    run = desk.asked()[0][1]
    desk.counting.cancel(records[0])
    desk.counting.cancel(records[0])
    desk.ask()
    assert desk.asked() == []
    assert desk.says("a", CountedTokens(job=run, prompt_tokens=1))
    assert len(desk.asked()) == 1
    assert desk.told() == {}


def test_a_count_goes_on_at_another_worker_once() -> None:
    desk = Desk("a", "b")
    record = desk.ask()
    assert desk.asked() == [("a", f"{record.id}.1")]
    desk.leave("a")
    desk.counting.tick(1.0)
    assert desk.asked() == [("b", f"{record.id}.2")]
    assert not desk.says("a", CountedTokens(job=f"{record.id}.1", prompt_tokens=1))
    desk.leave("b")
    desk.counting.tick(2.0)
    assert isinstance(desk.told()[record.id], WorkerFailed)


def test_a_rejected_count_waits_for_the_next_tick() -> None:
    desk = Desk("a")
    record = desk.ask()
    for number in (1, 2, 3):
        assert desk.asked() == [("a", f"{record.id}.{number}")]
        assert desk.says("a", Rejected(job=f"{record.id}.{number}", reason="no_slot"))
        assert desk.asked() == []
        desk.counting.tick(1.0)
    assert desk.told() == {}


def test_what_fails_is_the_clients_error() -> None:
    desk = Desk("a")
    record = desk.ask()
    ((_, run),) = desk.asked()
    assert desk.says("a", Failed(job=run, code="invalid_image", message="No.", param="messages"))
    error = desk.told()[record.id]
    assert isinstance(error, InvalidRequest) and error.code == "invalid_image"


def test_a_count_that_takes_too_long_is_given_up() -> None:
    desk = Desk("a")
    asked, waiting = desk.ask(), [desk.ask() for _ in range(MOST_ASKED)][-1]
    desk.counting.tick(TIMEOUT_S)
    told = desk.told()
    assert isinstance(told[asked.id], DeadlinePassed)
    assert isinstance(told[waiting.id], DeadlinePassed)


def test_an_older_worker_is_not_asked() -> None:
    desk = Desk("a", counts=False)
    record = desk.ask()
    assert desk.asked() == []
    assert isinstance(desk.told()[record.id], NoWorker)
    desk.sessions["b"] = desk.connect("b")
    desk.ask()
    assert [name for name, _ in desk.asked()] == ["b"]


def test_messages_about_anything_else_are_left_to_the_dispatcher() -> None:
    desk = Desk("a", "b")
    record = desk.ask()
    run = f"{record.id}.1"
    assert not desk.says("a", Accepted(job=run, prompt_tokens=1))
    assert not desk.says("b", Failed(job=run, code="internal_error", message="x"))
    assert not desk.says("a", Failed(job="other", code="internal_error", message="x"))

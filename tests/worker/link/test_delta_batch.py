"""What a worker has to say to one gateway: in one message, in order, none of it too long."""

from __future__ import annotations

from shared import wire
from shared.messages import Accepted, Delta, Deltas, Done, Timings, Usage
from worker.link.delta_batch import (
    MAX_CHARACTERS_A_MESSAGE,
    MAX_DELTAS_A_MESSAGE,
    DeltaBatch,
)

ACCEPTED = Accepted(job="j", prompt_tokens=1)
DONE = Done(job="j", usage=Usage(prompt_tokens=1, completion_tokens=1), timings=Timings())


def deltas(count: int) -> list[Delta]:
    return [Delta("j", sequence, 0, [1]) for sequence in range(count)]


def test_nothing_is_no_message() -> None:
    assert list(DeltaBatch().messages()) == []


def test_a_short_answer_is_one_message() -> None:
    batch = DeltaBatch([ACCEPTED], deltas(1), [DONE])
    assert list(batch.messages()) == [Deltas(items=deltas(1), accepted=[ACCEPTED], done=[DONE])]


def test_many_deltas_are_several_messages_that_begin_and_end_as_one_would() -> None:
    every = deltas(2 * MAX_DELTAS_A_MESSAGE + 1)
    first, *middle, last = DeltaBatch([ACCEPTED], every, [DONE]).messages()
    assert [*first.items, *(d for m in middle for d in m.items), *last.items] == every
    assert (first.accepted, first.done) == ([ACCEPTED], [])
    assert [(m.accepted, m.done) for m in middle] == [([], [])]
    assert (last.accepted, last.done) == ([], [DONE])


def test_a_prompt_that_is_echoed_by_every_choice_does_not_cut_the_connection() -> None:
    echo = "\N{GRINNING FACE}" * (MAX_CHARACTERS_A_MESSAGE // 2)
    every = [Delta("j", choice, choice, [1], echo) for choice in range(16)]
    messages = list(DeltaBatch([ACCEPTED], every, [DONE]).messages())
    assert [delta for message in messages for delta in message.items] == every
    assert all(len(wire.encode(message)[1]) <= Deltas.max_body_bytes for message in messages)

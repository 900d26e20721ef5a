"""The memory that all requests hold together, and the line before it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BodyTooLarge, QueueFull
from gateway.memory import Holding, MemoryBudget

MIB = 1 << 20


def budget(mib: int) -> MemoryBudget:
    return MemoryBudget(mib * MIB, lambda size_bytes: None)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Line:
    """Requests that wait; `entered` are those whose wait is over."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def body(self, name: str, holding: Holding, mib: int) -> None:
        self.tasks[name] = asyncio.create_task(self._body(name, holding, mib))

    def more(self, name: str, holding: Holding, mib: int) -> None:
        self.tasks[name] = asyncio.create_task(self._more(name, holding, mib))

    async def _body(self, name: str, holding: Holding, mib: int) -> None:
        await holding.wait_for_body(mib * MIB)
        self.entered.append(name)

    async def _more(self, name: str, holding: Holding, mib: int) -> None:
        while not holding.hold_if_free(mib * MIB):
            await holding.until_room(mib * MIB, name)
        self.entered.append(name)


def test_what_does_not_fit_is_refused_and_what_never_fits_is_told_apart() -> None:
    freed: list[int] = []
    budget = MemoryBudget(100, freed.append)
    with budget.open() as first, budget.open() as second:
        first.take(60)
        with pytest.raises(QueueFull) as full:
            second.take(50, "messages[0]")
        assert full.value.param == "messages[0]"
        with pytest.raises(BodyTooLarge) as large:
            first.take(41, "messages[1]")
        assert large.value.param == "messages[1]"
        first.give_back(20)
        second.take(50)
        assert budget.used_bytes == 90
    assert budget.used_bytes == 0
    assert sorted(freed) == [20, 40, 50]


def test_a_request_that_fills_all_with_its_own_is_too_large() -> None:
    """With what is held beside it, too: it would be refused whenever it came back."""
    memory = budget(100)
    with memory.open() as request, memory.open() as other:
        request.take(40 * MIB)
        with request.beside() as room:
            room.hold(50 * MIB)
            with pytest.raises(BodyTooLarge) as large:
                request.take(20 * MIB, "messages[0]")
            assert large.value.param == "messages[0]"
            other.take(MIB)
            with pytest.raises(QueueFull):
                request.take(20 * MIB)


async def test_bodies_leave_half_to_what_requests_come_to_need() -> None:
    memory, line = budget(80), Line()
    bodies = [memory.open(f"client{number}") for number in range(3)]
    for number, body in enumerate(bodies):
        line.body(str(number), body, 20)
    await settle()
    assert line.entered == ["0", "1"]
    bodies[1].give_back(20 * MIB)
    await settle()
    assert line.entered == ["0", "1", "2"]


async def test_one_body_may_take_more_than_half_when_it_is_alone() -> None:
    memory, line = budget(64), Line()
    small, first, second = (memory.open(name) for name in "abc")
    small.take(1000)
    line.body("first", first, 50)
    line.body("second", second, 50)
    await settle()
    assert line.entered == ["first"]
    with pytest.raises(BodyTooLarge):
        await second.wait_for_body(65 * MIB)
    first.give_back(50 * MIB)
    await settle()
    assert line.entered == ["first", "second"]


async def test_a_body_is_counted_once() -> None:
    memory = budget(64)
    body = memory.open()
    await body.wait_for_body(10 * MIB)
    body.take(4 * MIB)
    body.take(6 * MIB)
    assert memory.used_bytes == 10 * MIB
    body.take(100)
    assert memory.used_bytes == 10 * MIB + 100


async def test_the_client_that_holds_least_is_next_and_none_fills_the_door() -> None:
    memory, line = budget(80), Line()
    many = [memory.open("many") for _ in range(4)]
    for number, body in enumerate(many):
        line.body(f"many{number}", body, 10)
    await settle()
    assert line.entered == ["many0", "many1"]
    few = memory.open("few")
    line.body("few", few, 15)
    await settle()
    assert line.entered == ["many0", "many1", "few"]
    many[0].give_back(10 * MIB)
    await settle()
    assert line.entered == ["many0", "many1", "few", "many2"]


async def test_what_a_request_needs_comes_before_bodies_and_the_oldest_first() -> None:
    memory, line = budget(64), Line()
    running, old, young, body = (memory.open(name) for name in "abcd")
    running.take(60 * MIB)
    line.more("old", old, 30)
    await settle()
    line.body("body", body, 2)
    line.more("young", young, 30)
    await settle()
    assert line.entered == []
    running.give_back(30 * MIB)
    await settle()
    assert line.entered == ["old"]
    running.give_back(30 * MIB)
    await settle()
    assert line.entered == ["old"]  # the other half is the oldest's until it has all it needs
    old.has_grown()
    await settle()
    assert line.entered == ["old", "young"]
    old.give_back(30 * MIB)
    await settle()
    assert line.entered == ["old", "young", "body"]


async def test_where_everybody_waits_for_everybody_the_youngest_is_refused() -> None:
    memory, line = budget(64), Line()
    old, young = memory.open("a"), memory.open("b")
    old.take(30 * MIB)
    young.take(25 * MIB)
    line.more("old", old, 20)
    await settle()
    line.more("young", young, 20)
    with pytest.raises(QueueFull) as refused:
        await line.tasks["young"]
    assert refused.value.param == "young"
    young.give_back(25 * MIB)
    await settle()
    assert line.entered == ["old"]


async def test_what_is_held_beside_a_request_can_become_its_own() -> None:
    memory = budget(64)
    with memory.open() as request:
        with request.beside() as room:
            assert room.hold_if_free(20 * MIB)
            room.keep(5 * MIB)
        assert (request.held_bytes, memory.used_bytes) == (5 * MIB, 5 * MIB)
    assert memory.used_bytes == 0


async def test_who_gives_up_leaves_the_line_and_holds_nothing() -> None:
    memory, line = budget(64), Line()
    running, first, second = (memory.open(name) for name in "abc")
    running.take(40 * MIB)
    line.body("first", first, 60)
    await settle()
    line.tasks["first"].cancel()
    line.body("second", second, 24)
    await settle()
    running.give_back(40 * MIB)
    line.tasks["second"].cancel()
    await asyncio.wait(line.tasks.values())
    assert line.entered == []
    assert memory.used_bytes == 0

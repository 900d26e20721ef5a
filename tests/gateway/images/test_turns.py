"""Places given out fairly between requests."""

from __future__ import annotations

import asyncio

from gateway.images.turns import Flow, Turns


class Line:
    """Tasks that take turns; each ends when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, name: str, flow: Flow, cost: float = 1, key: str = "") -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._take(name, flow, cost, key))

    async def _take(self, name: str, flow: Flow, cost: float, key: str) -> None:
        async with self.turns.turn(flow, cost, key):
            self.began.append(name)
            await self.ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await self.tasks[name]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_requests_take_turns_whoever_asked_for_many_first() -> None:
    line = Line(Turns(1))
    many, one = Flow(), Flow()
    for number in range(4):
        line.ask(f"many{number}", many)
    await line.settle()
    line.ask("one", one)
    await line.end("many0")
    await line.end(line.began[1])
    assert "one" in line.began[:3]
    await line.end("one", "many1", "many2", "many3")


async def test_what_costs_little_goes_before_what_costs_much() -> None:
    line = Line(Turns(1))
    line.ask("running", Flow())
    for number in range(3):
        line.ask(f"large{number}", Flow(), cost=50)
    line.ask("small", Flow(), cost=1)
    await line.settle()
    await line.end("running")
    assert line.began == ["running", "small"]
    await line.end("small", "large0", "large1", "large2")


async def test_what_costs_much_is_not_passed_for_ever() -> None:
    line = Line(Turns(1))
    line.ask("running", Flow())
    line.ask("large", Flow(), cost=5)
    await line.settle()
    for number in range(10):
        line.ask(f"small{number}", Flow())
        await line.settle()
        await line.end(line.began[-1])
    assert "large" in line.began
    await line.end(*line.began, *(name for name in line.tasks if name not in line.began))


async def test_a_quarter_is_kept_for_those_who_have_no_place() -> None:
    line = Line(Turns(8))
    greedy = Flow()
    for number in range(8):
        line.ask(f"greedy{number}", greedy)
    await line.settle()
    assert len(line.began) == 6
    line.ask("new", Flow())
    await line.settle()
    assert line.began[-1] == "new"
    await line.end(*line.began)
    await line.end("greedy6", "greedy7")


async def test_one_key_has_its_share_and_others_pass_it() -> None:
    turns = Turns(4, per_key=1)
    line = Line(turns)
    line.ask("a1", Flow(), key="a")
    line.ask("a2", Flow(), key="a")
    line.ask("b", Flow(), key="b")
    await line.settle()
    assert line.began == ["a1", "b"]
    await line.end("a1", "a2", "b")
    assert turns.keys == set()


async def test_clients_take_turns_however_many_requests_they_have() -> None:
    turns = Turns(1)
    line = Line(turns)
    for number in range(6):
        line.ask(f"many{number}", Flow("many"))
    await line.settle()
    await line.end("many0")
    for number in range(3):
        line.ask(f"few{number}", Flow("few"))
    await line.settle()
    while len(line.began) < 7:
        await line.end(line.began[-1])
    assert sorted(line.began[1:7]) == ["few0", "few1", "few2", "many1", "many2", "many3"]
    while len(line.began) < 9:
        await line.end(line.began[-1])
    await line.end(line.began[-1])
    assert turns.clients == set()


async def test_the_last_places_are_for_clients_that_have_none() -> None:
    line = Line(Turns(8))
    for number in range(9):
        line.ask(f"many{number}", Flow("many"))
    await line.settle()
    assert len(line.began) == 7
    line.ask("other", Flow("other"))
    await line.settle()
    assert line.began[-1] == "other"
    await line.end(*line.began)
    await line.end("many7", "many8")


async def test_what_a_turn_took_counts_for_its_clients_next_ones() -> None:
    turns = Turns(1)
    line = Line(turns)
    slow = Flow("slow")
    line.ask("slow0", slow)
    line.ask("slow1", slow)
    line.ask("b0", Flow("b"))
    await line.settle()
    turns.charge(slow, 5)
    for number in range(1, 4):
        line.ask(f"b{number}", Flow("b"))
    while len(line.began) < 6:
        await line.end(line.began[-1])
    assert line.began == ["slow0", "b0", "b1", "b2", "b3", "slow1"]
    await line.end("slow1")


async def test_who_gives_up_leaves_the_line_and_keeps_no_place() -> None:
    line = Line(Turns(1))
    for name in ("a", "waiting", "admitted", "last"):
        line.ask(name, Flow())
    await line.settle()
    line.tasks["waiting"].cancel()
    await line.settle()
    line.ends["a"].set()
    await asyncio.wait([line.tasks["a"]])
    line.tasks["admitted"].cancel()
    await line.settle()
    assert line.began[-1] == "last"
    await line.end("last")

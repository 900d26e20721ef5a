"""The comparison of whole servers: what it asks, what it counts, what it tells."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from scripts.benchmarks.load.client import AnswerTimes, Client
from scripts.benchmarks.load.loops import Outcome, closed_loop, share
from scripts.benchmarks.load.target import CASES, Target, body, pictures, target
from scripts.benchmarks.server import Cell, Figures, reported, turn_row
from scripts.benchmarks.servers.processes import DEMO_MODEL
from scripts.benchmarks.servers.rivals import rival
from scripts.checkpoints.endless import endless_copy
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway as serving_gateway
from tests.gateway.serving import question


def test_an_answer_counts_with_its_share_of_the_window() -> None:
    assert share(1.0, 2.0, until=3.0) == 1.0
    assert share(1.0, 5.0, until=3.0) == 0.5
    assert share(3.0, 3.0, until=3.0) == 0.0


def test_only_text_is_a_token() -> None:
    answer = AnswerTimes()
    answer.take(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n', 1.0)
    assert answer.texts == 0
    answer.take(b'data: {"delta":{"content":"a"}}\n\ndata: {"delta":{"content": "b"}}\n\n', 2.0)
    answer.take(b'data: {"delta":{"content":"\\""}}\n\ndata: [DONE]\n\n', 5.0)
    assert (answer.first_at, answer.texts, answer.gaps_s) == (2.0, 3, [0.0, 3.0])


async def test_every_answer_is_awaited() -> None:
    async with serving_gateway(says("Hello", " world")) as running:
        asked = Target(f"{running.url}/v1/chat/completions", json.dumps(question(stream=True)), 2)
        outcome = await asyncio.wait_for(closed_loop(asked, connections=2, seconds=0.2), 30)
    assert outcome.answered >= 2
    assert outcome.errors == 0
    assert 0.0 < outcome.per_second <= outcome.answered / 0.2
    assert len(outcome.latencies_s) == len(outcome.gaps_s) == outcome.answered


async def test_a_stream_without_text_is_an_error() -> None:
    async with serving_gateway(says("Hello")) as running:
        url = f"{running.url}/v1/chat/completions"
        client = Client(Target(url, json.dumps(question()), events=1))
        streamed = Client(Target(url, json.dumps({"messages": []}), events=1))
        assert (await client.ask()).good  # whole, but it has text
        assert not (await streamed.ask()).good
        client.close()


async def test_a_server_that_is_gone_is_an_error() -> None:
    gone = Target("http://127.0.0.1:9/v1/chat/completions", "{}")
    outcome = await asyncio.wait_for(closed_loop(gone, connections=1, seconds=0.1), 30)
    assert (outcome.answered, outcome.per_second) == (0, 0.0)
    assert outcome.errors >= 1


def test_pictures_differ() -> None:
    assert len(set(pictures())) == len(pictures())
    assert target(CASES[3], "http://x", None).pictures
    assert not target(CASES[0], "http://x", None).pictures


def test_a_rival_is_told_which_model() -> None:
    assert json.loads(target(CASES[0], "http://x", "m").body)["model"] == "m"
    assert "model" not in json.loads(target(CASES[0], "http://x", None).body)
    assert body(CASES[2])["stream"] is True


def test_a_rival_needs_a_command() -> None:
    assert rival("mine=serve {model}").name == "mine"
    assert rival("mlx-vlm").name == "mlx-vlm"
    with pytest.raises(ValueError, match="expected NAME=COMMAND"):
        rival("nobody")


def test_a_checkpoint_without_end() -> None:
    with endless_copy(DEMO_MODEL) as copy:
        config = json.loads((copy / "config.json").read_text())
        kinds = {value.dtype.name for value in load_file(copy / "model.safetensors").values()}
    assert config["eos_token_id"] == config["pad_token_id"]
    if sys.platform != "darwin":
        assert kinds == {"float32"}


def test_ours_is_compared_with_the_best_rival(tmp_path: Path) -> None:
    cell = Cell(CASES[1], 8)
    figures = Figures()
    rates = {"ours": (30.0, 60.0), "slow": (1.0, 1.0), "fast": (10.0, 30.0)}
    for name, measured in rates.items():
        for per_second in measured:
            outcome = Outcome(per_second=per_second, answered=10, latencies_s=[0.1])
            figures.turns[cell][name].append(turn_row(outcome, 64, {"server": 2.0}, stream=False))
    report = reported(figures, list(rates))
    (row,) = report.tables["Ours against the best rival"]
    assert (row["best rival"], row["ratio"], row["wanted"]) == ("fast", 2.5, 2.0)
    assert row["CPU a request, its / ours"] == 1.0
    each = {row["server"]: row for row in report.tables["Each server"]}
    assert each["ours"]["tokens/s"] == 45.0 * 64
    assert each["ours"]["CPU ms/request"] == pytest.approx(200.0)

"""The arithmetic of the benchmarks, and that each of them runs. No figure is judged here."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from pathlib import Path

import pytest

from scripts.benchmarks import gateway, scale
from scripts.benchmarks.load.loops import closed_loop, open_loop
from scripts.benchmarks.load.target import Target
from scripts.benchmarks.load.wrk import read_output
from scripts.benchmarks.report import Report, alternated, percentile, shown, table
from scripts.benchmarks.servers.bare import split_events
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway as serving_gateway
from tests.gateway.serving import question


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(i) for i in range(100)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_a_table_is_markdown_with_three_digits() -> None:
    assert table([{"a": 0.12345, "b": None}, {"a": 12345.6, "b": "x"}]).splitlines() == [
        "| a      | b |",
        "| ------ | - |",
        "| 0.123  |   |",
        "| 12,346 | x |",
    ]
    assert shown(3) == "3"


@pytest.mark.process
def test_json_names_no_host(tmp_path: Path) -> None:
    Report("x", {"t": [{"a": 1}]}).write(tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["tables"] == {"t": [{"a": 1}]}
    assert set(content) == {"benchmark", "machine", "code", "load", "at", "tables", "notes"}


@pytest.mark.process
def test_a_report_says_what_was_measured_and_beside_what() -> None:
    assert re.search(r"Code \S+; .* load [\d.]+ before, [\d.]+ at the end", Report("x").text())


def test_wrk_output_counts_errors_out() -> None:
    figures = '{"requests":110,"duration_us":2000000,"errors":10,"p50_us":500,"p99_us":9000}'
    outcome = read_output(f"Running 2s test\n  110 requests\n\nJSON {figures}\n")
    assert (outcome.answered, outcome.errors, outcome.per_second) == (100, 10, 50.0)
    assert (outcome.p50_s, outcome.p99_s) == (0.0005, 0.009)


def test_wrk_that_failed_says_why() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        read_output("unable to connect to 127.0.0.1:1 Connection refused")


def test_events_are_split_without_loss() -> None:
    streamed = b"data: 1\n\n: comment\n\ndata: [DONE]\n\n"
    assert b"".join(split_events(streamed)) == streamed
    assert len(split_events(streamed)) == 3


def test_nothing_measured_is_no_division_by_zero() -> None:
    nothing = '{"requests":0,"duration_us":0,"errors":0,"p50_us":0,"p99_us":0}'
    assert read_output(f"JSON {nothing}\n").per_second == 0.0


def test_sides_take_turns_in_going_first() -> None:
    assert [*alternated("abc", 0), *alternated("abc", 1), *alternated("abc", 2)] == [*"abccbaabc"]


async def test_open_loop_asks_as_often_as_it_should() -> None:
    async with serving_gateway(says("Hello", " world")) as running:
        target = Target(f"{running.url}/v1/chat/completions", json.dumps(question(stream=True)))
        outcome = await open_loop(target, per_second=50, seconds=0.4)
    assert (outcome.answered, outcome.errors) == (20, 0)
    assert len(outcome.first_s) == 20
    assert len(outcome.gaps_s) == 20


async def test_refused_requests_are_errors_not_answers() -> None:
    async with serving_gateway() as running:
        target = Target(f"{running.url}/v1/chat/completions", '{"messages": []}')
        outcome = await open_loop(target, per_second=50, seconds=0.1)
    assert (outcome.answered, outcome.errors) == (0, 5)


async def test_closed_loop_keeps_asking() -> None:
    async with serving_gateway(says("Hello")) as running:
        target = Target(f"{running.url}/v1/chat/completions", json.dumps(question()))
        outcome = await asyncio.wait_for(closed_loop(target, 2, 0.1), 30)
    assert outcome.answered >= 2
    assert outcome.errors == 0


def test_the_fleet_serves_what_it_is_given() -> None:
    parser = argparse.ArgumentParser()
    scale.add_arguments(parser)
    options = parser.parse_args(["--workers", "4", "--slots", "2", "--seconds", "20"])
    (rows,) = scale.run(options).tables.values()
    full = rows[0]
    assert full["answers"] > 20
    assert 0.95 <= full["slots busy"] <= 1.0


def test_scripted_bodies_ask_for_what_is_counted() -> None:
    body = json.loads(gateway.STREAMED)
    assert body["stream"] is True
    assert f'"tokens": {gateway.STREAM_TOKENS}' in body["messages"][0]["content"]

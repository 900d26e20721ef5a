"""The whole system against one process: waves of both kinds run, and their ratios are right."""

from __future__ import annotations

import argparse
import random

import pytest

from scripts.benchmarks import system
from scripts.benchmarks.load.target import Case, Target, body, question


def test_ratios_are_of_one_turn() -> None:
    def turn(generator_s: float, engine_s: float, system_s: float) -> system.Turn:
        return {
            "generator": system.Wave(generator_s, {"generator": 1.0}),
            "engine": system.Wave(engine_s, {"engine": 1.0}),
            "system": system.Wave(system_s, {"worker": 0.5, "gateway": 0.25}, [0.1], [0.2]),
        }

    row = system.row(2, 5, [turn(1.0, 1.0, 2.0), turn(10.0, 5.0, 10.0), turn(1.0, 1.0, 1.0)])
    assert row["system / BatchGenerator"] == 1.0
    assert row["whole system"] == 5.0
    assert row["worker"] == pytest.approx(5e4)


def test_all_sides_get_the_same_prompts() -> None:
    target = Target("http://127.0.0.1:1/x", str(body(Case("", 1))["messages"][0]["content"]))
    first = random.randrange(10**8, 10**9)
    assert target.body_of(first) == question(first)


@pytest.mark.process
def test_a_wave_of_each_side() -> None:
    parser = argparse.ArgumentParser()
    system.add_arguments(parser)
    asked = ["--rounds", "1", "--streams", "2", "--tokens", "3"]
    (rows,) = system.run(parser.parse_args(asked)).tables.values()
    (row,) = rows
    assert row["errors"] == 0
    assert min(row["BatchGenerator"], row["engine alone"], row["whole system"]) > 0
    assert row["first token p50 ms"] > 0

"""The engine against mlx-vlm's `BatchGenerator` driven directly, on the same prompts, in one run.

    scripts/bench engine --model-path <folder or hub id>

Ratios hold; absolute figures are of the machine and the hour. Both sides are warmed up and take
turns; a ratio is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scripts.benchmarks.in_process import drafts
from scripts.benchmarks.in_process.churn import Contexts, churn
from scripts.benchmarks.in_process.clocks import Clocks
from scripts.benchmarks.in_process.engines import Ours, Request, Theirs, requests
from scripts.benchmarks.in_process.joins_and_leaves import joins_and_leaves, narrowings
from scripts.benchmarks.in_process.latency import (
    first_requests,
    longest_step,
    random_checkpoint,
    second_turns,
    stalls,
)
from scripts.benchmarks.report import ProgressBar, Report, Row, alternated, median
from scripts.benchmarks.servers.processes import DEMO_MODEL

DESCRIPTION = "The engine against mlx-vlm's BatchGenerator driven directly, in turns."


@dataclass(frozen=True)
class Case:
    name: str
    count: int
    tokens: int
    pictures: bool
    wanted: float


CASES = (
    Case("text, batch 1", 1, 64, False, 1.0),
    Case("text, batch 8", 8, 64, False, 1.0),
    Case("text, batch 32", 32, 64, False, 1.0),
    Case("one image each, 16 tokens, 8 at once", 8, 16, True, 1.2),
)
PARTS = ("throughput", "latency", "rows", "drafts")
LATENCIES = ("a long prompt joins", "second turns", "first requests", "a long prompt alone")
ROWS = ("who joins and leaves copies", "churn")


def measure(case: Case, ours: Ours, theirs: Theirs, rounds: int) -> Row:
    tokens = case.count * case.tokens
    pairs = in_turns(ours, theirs, lambda: requests(case.count, case.tokens, case.pictures), rounds)
    return {"case": case.name, **compared(tokens, pairs), "wanted": case.wanted}


def in_turns(
    ours: Ours, theirs: Theirs, ask: Callable[[], list[Request]], rounds: int
) -> list[tuple[Clocks, Clocks]]:
    """Ask both the same, round by round; return what our answers took and what theirs did."""
    sides: tuple[Ours | Theirs, ...] = (theirs, ours)
    pairs = []
    for number in range(rounds + 1):  # the first warms up
        asked = ask()
        spent = {side: side.run(asked) for side in alternated(sides, number)}
        if number:
            pairs.append((spent[ours], spent[theirs]))
    return pairs


def compared(tokens: int, pairs: Sequence[tuple[Clocks, Clocks]]) -> Row:
    """Figures of so many tokens a round."""
    return {
        "engine_tokens_per_s": median(tokens / own.wall_s for own, _ in pairs),
        "batch_generator_tokens_per_s": median(tokens / other.wall_s for _, other in pairs),
        "engine_cpu_ms_a_token": median(own.cpu_s * 1e3 / tokens for own, _ in pairs),
        "batch_generator_cpu_ms_a_token": median(o.cpu_s * 1e3 / tokens for _, o in pairs),
        "ratio": median(other.wall_s / own.wall_s for own, other in pairs),
        "cpu_ratio": median(other.cpu_s / own.cpu_s for own, other in pairs),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", default=str(DEMO_MODEL), help="a local checkpoint")
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up")
    parser.add_argument("--long-prompt", type=int, default=2000, help="tokens, about")
    parser.add_argument("--lone-prompt", type=int, default=20_000, help="tokens, about")
    parser.add_argument("--churn-context", type=int, default=1500, help="tokens, about")
    parser.add_argument("--churn-seconds", type=float, default=30.0, help="for each side")
    parser.add_argument(
        "--only",
        choices=PARTS,
        help="leave out the other parts, which take their time",
    )


def run(options: argparse.Namespace) -> Report:
    wanted = {options.only} if options.only else set(PARTS)
    cases = CASES if "throughput" in wanted else ()
    latencies, rows_too = "latency" in wanted, "rows" in wanted
    steps = len(cases) + len(LATENCIES) * latencies + len(ROWS) * rows_too
    progress = ProgressBar(steps + 2 * len(drafts.CASES) * ("drafts" in wanted))
    report = Report("engine")
    if "drafts" in wanted:
        report.tables["With drafts and without"] = list(_drafts(options, progress))
    if wanted == {"drafts"}:
        progress.end()
        return report
    ours = Ours(options.model_path)
    theirs = Theirs(options.model_path, ours.engine.writer.write)
    if cases:
        rows = report.tables["Tokens per second"] = []
        for case in cases:
            progress.step(case.name)
            rows.append(measure(case, ours, theirs, options.rounds))
    if rows_too:
        progress.step(ROWS[0])
        report.tables["Who joins or leaves"] = joins_and_leaves(options.rounds)
        report.tables["The best of a vocabulary"] = [narrowings(options.rounds)]
        progress.step(ROWS[1])
        report.tables["Churn"] = [
            churn(
                ours,
                theirs,
                Contexts.of(ours, options.churn_context, remembered=remembered),
                options.churn_seconds,
            )
            for remembered in (True, False)
        ]
        report.tables["Churn"][0] |= {"wanted": 2.0, "of_steady_wanted": 0.85}
    if latencies:
        _latencies(ours, options, report, progress)
    progress.end()
    return report


def _drafts(options: argparse.Namespace, progress: ProgressBar) -> Iterator[Row]:
    with random_checkpoint() as folder:
        for name, path in (("given", options.model_path), ("53 M random", str(folder))):
            drafting = drafts.Drafting(path)
            for case in drafts.CASES:
                progress.step(f"{case.name}, {name}")
                yield drafting.measure(case, name, options.rounds)


def _latencies(
    ours: Ours, options: argparse.Namespace, report: Report, progress: ProgressBar
) -> None:
    few = max(1, options.rounds // 2)
    progress.step(LATENCIES[0])
    report.tables["A long prompt joins"] = [stalls(ours, options.long_prompt, few)]
    with random_checkpoint() as folder:
        progress.step(LATENCIES[1])
        first_tokens = [second_turns(Ours(str(folder)), options.rounds)]
        progress.step(LATENCIES[2])
        first_tokens.append(first_requests(str(folder), few))
    report.tables["First tokens, 53 million random weights"] = first_tokens
    progress.step(LATENCIES[3])
    report.tables["A long prompt alone"] = [longest_step(ours, options.lone_prompt)]

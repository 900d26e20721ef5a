"""OpenBLAS's threads: timed once a phase, unless whoever starts the worker has chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.engine.model import blas
from worker.engine.model.blas import GIVEN, LONG_S, WORTH, BlasThreads
from worker.engine.model.model import LoadedModel, load_model
from worker.engine.options import EngineOptions

MOST = 2


@pytest.fixture(autouse=True)
def all_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads whatever the machine, none of them chosen from outside."""
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)
    before = blas.thread_count()
    blas.use_threads(MOST)
    if blas.thread_count() != MOST:
        pytest.skip("OpenBLAS is not loaded here")
    yield
    blas.use_threads(before)


@pytest.fixture(scope="module")
def model(checkpoint: Callable[[str], Path]) -> LoadedModel:
    return load_model(EngineOptions(str(checkpoint("qwen2_vl"))), lambda fraction: None)


def test_the_engine_decodes_with_what_was_chosen(
    monkeypatch: pytest.MonkeyPatch, model: LoadedModel
) -> None:
    times = iter([MOST, 1])
    monkeypatch.setattr(blas, "faster", lambda work, most: next(times))
    chosen = blas.choose_threads(model, gpu=False)
    assert chosen == BlasThreads(prefill=MOST, decode=1)
    chosen.for_decode()
    assert blas.thread_count() == 1
    chosen.for_prefill()
    assert blas.thread_count() == MOST


def test_timing_leaves_the_threads_as_they_were(model: LoadedModel) -> None:
    chosen = blas.choose_threads(model, gpu=False)
    assert {chosen.prefill, chosen.decode} <= {1, MOST}
    assert blas.thread_count() == MOST


@pytest.mark.parametrize("name", GIVEN)
def test_a_choice_from_outside_holds(
    name: str, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(MOST))
    monkeypatch.setattr(LoadedModel, "try_out", None)  # so that timing would fail
    assert blas.choose_threads(model, gpu=False) == BlasThreads(MOST, MOST)


class Work:
    """Takes so many seconds of a clock of its own on so many threads.

    Attributes:
        seen: the threads it was done on, each time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.seen: list[int] = []
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def __call__(self) -> None:
        self.seen.append(blas.thread_count())
        self.now += self.seconds[self.seen[-1]]


def test_all_threads_where_they_are_much_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, {1: WORTH * 0.03 + 0.001, MOST: 0.03})
    assert blas.faster(work, MOST) == MOST
    assert set(work.seen) == {1, MOST}


def test_one_thread_where_more_gain_little(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, {1: WORTH * 0.03 - 0.001, MOST: 0.03})
    assert blas.faster(work, MOST) == 1


def test_a_slow_model_is_not_timed_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, {MOST: LONG_S + 0.01})
    assert blas.faster(work, MOST) == MOST
    assert work.seen == [MOST]


def test_a_model_that_cannot_be_tried_is_served_all_the_same(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*shape: int) -> None:
        raise ValueError("this model wants a picture")

    monkeypatch.setattr(model, "try_out", fails)
    assert blas.choose_threads(model, gpu=False) == BlasThreads(MOST, MOST)
    assert blas.thread_count() == MOST

"""OpenBLAS's threads: timed once a phase, unless whoever starts the worker has chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.engine.model import blas
from worker.engine.model.blas import GIVEN, LONG_S, BlasThreads
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
    monkeypatch.setattr(blas, "_faster", lambda work, most: next(times))
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


def sleeping(seconds: dict[int, float]) -> tuple[Callable[[], None], list[int]]:
    """Work that takes so long on so many threads, and the threads it was done on."""
    seen: list[int] = []

    def work() -> None:
        seen.append(blas.thread_count())
        time.sleep(seconds[seen[-1]])

    return work, seen


def test_all_threads_where_they_are_much_faster() -> None:
    work, seen = sleeping({1: 0.03, MOST: 0.003})
    assert blas._faster(work, MOST) == MOST
    assert set(seen) == {1, MOST}


def test_one_thread_where_more_gain_little() -> None:
    work, _ = sleeping({1: 0.02, MOST: 0.02})
    assert blas._faster(work, MOST) == 1


def test_a_slow_model_is_not_timed_on_one_thread() -> None:
    work, seen = sleeping({MOST: LONG_S + 0.01})
    assert blas._faster(work, MOST) == MOST
    assert seen == [MOST]


def test_a_model_that_cannot_be_tried_is_served_all_the_same(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*shape: int) -> None:
        raise ValueError("this model wants a picture")

    monkeypatch.setattr(model, "try_out", fails)
    assert blas.choose_threads(model, gpu=False) == BlasThreads(MOST, MOST)
    assert blas.thread_count() == MOST

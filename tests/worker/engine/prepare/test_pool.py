"""Jobs are prepared beside each other, and none waits for the long texts of others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from shared.messages import Job
from tests.waiting import TIMEOUT_S
from tests.worker.engine.driving import job
from worker.engine.prepare.grammar import GrammarMaker
from worker.engine.prepare.pool import LONG_BYTES, Preparation, Read
from worker.engine.prepare.preprocess import Preprocessor

THREADS = 2


class Held:
    """Counts letters; of a long text not before it may."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def read(self, job: Job, images: Sequence[bytes]) -> tuple[str, dict[str, Any]]:
        text = job.prompt or ""
        if len(text) > LONG_BYTES:
            assert self.may.wait(TIMEOUT_S)
        return text, {}


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.may.set()


def test_short_texts_pass_any_number_of_long_ones(held: Held) -> None:
    ready = threading.Semaphore(0)
    preparation = Preparation(
        cast(Preprocessor, held), cast(GrammarMaker, None), THREADS, ready.release
    )
    long, short = "x" * (LONG_BYTES + 1), "x" * (LONG_BYTES // 2)
    for number in range(2 * THREADS):
        preparation.count(*job(f"long {number}", prompt=long))
    for number in range(2 * THREADS):
        preparation.count(*job(f"short {number}", prompt=short))
    for _ in range(2 * THREADS):
        assert ready.acquire(timeout=TIMEOUT_S)
    counts = [arrival.count for arrival in preparation.collect() if isinstance(arrival, Read)]
    assert counts == [len(short)] * 2 * THREADS
    held.may.set()
    preparation.finish()
    assert len(list(preparation.collect())) == 2 * THREADS

"""What the queue of prefills makes of a prompt that is remembered."""

from __future__ import annotations

import time
from types import SimpleNamespace

import mlx.core as mx
import pytest

from shared.messages import Job
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, job
from worker.engine.cache import arrays
from worker.engine.cache.prefix import PrefixCache
from worker.engine.model.language import language_of
from worker.engine.schedule import prefill
from worker.engine.schedule.pacer import Pacer
from worker.engine.schedule.queue import CLEARED_TOKENS, PrefillQueue
from worker.engine.schedule.request import Request

LONG = "word " * CLEARED_TOKENS


class Line:
    """A queue of prefills beside which others decode."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        prefixes = PrefixCache(1 << 30, plain=True)
        self.queue = PrefillQueue(driver.model, prefixes, Pacer(60.0))

    def add(self, made: tuple[Job, list[bytes]]) -> None:
        request, model = Request(made[0]), self._driver.model
        prompt = self._driver.prompt(made)
        request.begin(prompt, None, language_of(model), model.defaults, None)
        self.queue.add(request)

    def read(self) -> None:
        """All who are in line."""
        while self.queue:
            self.queue.work(decoding=True, others_come=False)


@pytest.fixture
def line(drive: MakeDriver) -> Line:
    return Line(drive())


def test_a_newcomer_needs_no_more_than_what_is_not_remembered(line: Line) -> None:
    """Told before its turn has come, by which running streams are made to wait for it or not."""
    line.add(job("first", f"{LONG} one"))
    assert line.queue.next_tokens > CLEARED_TOKENS
    line.read()
    line.add(job("second", f"{LONG} two"))
    assert 0 < line.queue.next_tokens < 16


def test_buffers_are_kept_where_little_of_a_prompt_is_read(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[None] = []
    monkeypatch.setattr(mx, "clear_cache", lambda: cleared.append(None))
    line.add(job("first", f"{LONG} one"))
    line.read()
    assert len(cleared) == 1
    line.add(job("second", f"{LONG} two"))
    line.read()
    assert len(cleared) == 1


def test_what_the_device_had_to_do_before_is_no_part_of_a_pieces_time(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rest of a decode step in it, no piece seemed to be short enough."""
    step_s, waited, real = 1000.0, list[None](), time.perf_counter
    monkeypatch.setattr(mx, "synchronize", lambda: waited.append(None))
    clock = SimpleNamespace(perf_counter=lambda: real() + step_s * len(waited))
    for module in (arrays, prefill):
        monkeypatch.setattr(module, "time", clock)
    noted = list[float]()
    monkeypatch.setattr(
        line.queue.pacer, "note_chunk", lambda _, seconds, __: noted.append(seconds)
    )
    line.add(job("one", LONG))
    line.read()
    assert waited and max(noted) < step_s

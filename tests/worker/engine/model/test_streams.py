"""Two pictures, or two halves of a batch of prompts, computed side by side on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import pytest

from scripts.checkpoints.families import SEEING
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, job, picture
from worker.engine.model import blas
from worker.engine.model.inputs import PromptInputs
from worker.engine.model.streams import Streams
from worker.engine.model.vision_tower import MoreToEncode
from worker.engine.schedule.prefill import LEAST_A_STREAM, Prefill, Prefiller, inputs_of

RED, BLUE = picture("red"), picture("blue", (70, 120))
LONG = "What is in this picture, and where? " * 6


@pytest.fixture(autouse=True)
def two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has."""
    monkeypatch.setattr(Streams, "of_this_machine", lambda: Streams(2))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many pieces were computed at the same time, each time."""
    seen: list[int] = []
    compute = Streams.compute

    def noting(streams: Streams, pieces: Sequence[Any]) -> None:
        seen.append(len(pieces))
        compute(streams, pieces)

    monkeypatch.setattr(Streams, "compute", noting)
    yield seen


def prompts(driver: Driver, *pictures: bytes) -> list[PromptInputs]:
    asked = [job(str(index), "What is it?", [data]) for index, data in enumerate(pictures)]
    return [inputs_of(driver.prompt(one)) for one in asked]


@pytest.mark.parametrize("family", SEEING)
@pytest.mark.parametrize("seconds", [float("inf"), 0.0], ids=["whole", "in slices"])
def test_pictures_encoded_side_by_side_are_what_they_are_alone(
    family: str, seconds: float, drive: MakeDriver, computed: list[int]
) -> None:
    driver = drive(family, vision_cache_bytes=0)
    model = driver.model
    first, second = prompts(driver, RED, BLUE)
    alone = [model.embed(inputs) for inputs in (first, second)]
    computed.clear()
    found = []
    for inputs, beside in ((first, [second]), (second, [])):
        while True:
            try:
                found.append(model.embed(inputs, seconds, beside))
                break
            except MoreToEncode:
                assert seconds == 0.0
    assert 2 in computed
    for side_by_side, expected in zip(found, alone, strict=True):
        assert mx.allclose(side_by_side.embeds, expected.embeds, atol=1e-5)


def test_prompts_prefilled_on_two_streams_get_the_answers_they_get_alone(
    drive: MakeDriver, computed: list[int]
) -> None:
    jobs = [job(str(n), f"{n}. {LONG}", [RED, BLUE][: n % 3]) for n in range(5)]
    driver, alone = drive(), drive(prefix_cache_bytes=0, vision_cache_bytes=0)
    computed.clear()
    together = driver.run(*jobs)
    assert 2 in computed
    for made, result in zip(jobs, together, strict=True):
        assert result.tokens == alone.solo(made).tokens


def test_two_pictured_prompts_join_a_running_stream_together(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, alone = drive(prefill_pause_s=10.0), drive(prefix_cache_bytes=0, vision_cache_bytes=0)
    together = Prefiller.together
    sizes: list[int] = []

    def noting(prefiller: Prefiller, prefills: Sequence[Prefill]) -> Any:
        sizes.append(len(prefills))
        return together(prefiller, prefills)

    monkeypatch.setattr(Prefiller, "together", noting)
    stream = job("stream", "Go on.", max_tokens=400, ignore_eos=True)
    driver.submit(stream)
    driver.until(lambda: driver.results["stream"].tokens)
    asked = [job("red", "What is it?", [RED]), job("blue", "What is it?", [BLUE])]
    driver.submit_prepared(*asked)  # both are there before the engine looks
    driver.until(lambda: all(driver.results[made.id].over for made, _ in asked))
    assert not driver.results["stream"].over
    assert sizes == [2]
    for made in asked:
        assert driver.results[made[0].id].tokens == alone.solo(made).tokens


def test_little_work_stays_on_one_stream(drive: MakeDriver, computed: list[int]) -> None:
    driver = drive("llama")
    computed.clear()
    results = driver.run(job("1", "Hi"), job("2", "Ho"))
    assert sum(result.done.usage.prompt_tokens for result in results) < 2 * LEAST_A_STREAM
    assert set(computed) <= {1}


def test_a_picture_that_fails_beside_another_fails_alone(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive(vision_cache_bytes=0)
    model = driver.model
    good, bad = prompts(driver, RED, BLUE)
    expected = model.embed(good)
    compute = Streams.compute
    poisoned: list[Any] = []

    def fails(streams: Streams, pieces: Sequence[Any]) -> None:
        if len(pieces) == 2:
            poisoned.append(pieces[-1])
        if any(piece is one for piece in pieces for one in poisoned):
            raise RuntimeError("this one cannot be computed")
        compute(streams, pieces)

    monkeypatch.setattr(Streams, "compute", fails)
    found = model.embed(good, beside=[bad])
    assert poisoned
    assert mx.allclose(found.embeds, expected.embeds, atol=1e-5)
    with pytest.raises(RuntimeError, match="cannot be computed"):
        model.embed(bad)
    monkeypatch.undo()
    assert model.embed(bad).embeds.shape[1] == len(bad.ids)  # it is not remembered as a failure


@pytest.mark.parametrize("seconds", [float("inf"), 0.0], ids=["whole", "in slices"])
def test_one_picture_in_two_prompts_is_encoded_once_for_both(
    seconds: float, drive: MakeDriver
) -> None:
    driver = drive(vision_cache_bytes=0)
    model = driver.model
    asked = [job("1", "What is it?", [RED]), job("2", "And here?", [RED, BLUE])]
    first, second = (inputs_of(driver.prompt(one)) for one in asked)
    alone = [model.embed(inputs) for inputs in (first, second)]
    encoded = model.vision_cache.misses
    found = []
    for inputs, beside in ((first, [second]), (second, [])):
        for _ in range(100):
            try:
                found.append(model.embed(inputs, seconds, beside))
                break
            except MoreToEncode:
                assert seconds == 0.0
    for one, expected in zip(found, alone, strict=True):
        assert mx.allclose(one.embeds, expected.embeds, atol=1e-5)
    assert model.vision_cache.misses - encoded == 2
    assert model.tower is not None and not model.tower.underway


def test_pictures_of_a_prompt_that_never_comes_are_let_go(drive: MakeDriver) -> None:
    driver = drive(vision_cache_bytes=0)
    model = driver.model
    assert model.tower is not None
    first, gone, next_one = prompts(driver, RED, BLUE, picture("green"))
    model.embed(first, beside=[gone])
    assert model.tower.knows(gone.image_keys)
    model.embed(next_one)
    assert not model.tower.underway


def test_products_on_two_streams_take_one_thread_each_and_only_then() -> None:
    before = blas.thread_count()
    blas.use_threads(2)
    if blas.thread_count() != 2:
        pytest.skip("OpenBLAS is not loaded here")
    try:
        streams = Streams(2)
        pieces = []
        for number in range(2):
            with mx.stream(streams.stream(number)):
                pieces.append([mx.ones((8, 8)) @ mx.full((8, 8), number)])
        streams.compute(pieces)
        assert [piece[0][0, 0].item() for piece in pieces] == [0.0, 8.0]
        assert blas.thread_count() == 2
    finally:
        blas.use_threads(before)

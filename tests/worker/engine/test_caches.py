"""What is remembered between requests: for whom, how much, and what it is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.worker.engine import checkpoints
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, assistant, job, picture, user
from worker.engine.options import EngineOptions
from worker.engine.prefix_cache import common_length
from worker.engine.preprocess import cache_key

TEXT = "Hello, this is a longer text, so that there is something to remember. "


def test_the_same_prompt_is_not_computed_twice(drive: MakeDriver) -> None:
    driver = drive()
    first, again = (driver.solo(job(name, TEXT)) for name in ("1", "2"))
    assert again.tokens == first.tokens
    assert first.done.usage.cached_tokens == 0
    assert again.done.usage.cached_tokens == again.done.usage.prompt_tokens - 1


def test_tenants_do_not_share(drive: MakeDriver) -> None:
    driver = drive()
    driver.solo(job("1", TEXT, cache_salt="one"))
    assert driver.solo(job("2", TEXT, cache_salt="two")).done.usage.cached_tokens == 0
    assert driver.solo(job("3", TEXT, cache_salt="one")).done.usage.cached_tokens > 0


def test_a_common_start_is_of_use(drive: MakeDriver) -> None:
    driver, fresh = drive(), drive(prefix_cache_bytes=0)
    driver.solo(job("1", TEXT + "First end."))
    other = job("2", TEXT + "Another end, longer than the first.")
    found = driver.solo(other)
    assert found.tokens == fresh.solo(other).tokens
    assert found.done.usage.cached_tokens > 20


def test_pictures_count_in_their_order(drive: MakeDriver) -> None:
    driver, fresh = drive(), drive(prefix_cache_bytes=0)
    red, blue = picture("red"), picture("blue")
    driver.solo(job("1", "Compare.", [red, blue]))
    swapped = job("2", "Compare.", [blue, red])
    assert driver.solo(swapped).tokens == fresh.solo(swapped).tokens
    second = [user("Compare.", 0), assistant("Yes."), user("And now?", 1)]
    added = job("3", second, [red, picture("green")])
    result = driver.solo(added)
    assert result.tokens == fresh.solo(added).tokens
    assert 0 < result.done.usage.cached_tokens < result.done.usage.prompt_tokens


def test_caches_keep_within_their_limits(drive: MakeDriver) -> None:
    limit = 200_000
    driver = drive(prefix_cache_bytes=limit, vision_cache_bytes=4_000)
    for number in range(12):
        driver.solo(job(str(number), f"{number} {TEXT * 3}", [picture("red", (60 + number, 60))]))
        gauges = driver.engine.gauges()
        assert 0 < gauges["prefix_cache_bytes"] <= limit
        assert 0 < gauges["vision_cache_bytes"] <= 4_000


def test_features_are_counted_and_shared_between_questions(drive: MakeDriver) -> None:
    driver = drive()
    for number in range(3):
        driver.solo(job(str(number), f"Question {number}?", [picture("red")]))
    gauges = driver.engine.gauges()
    assert (gauges["vision_cache_misses"], gauges["vision_cache_hits"]) == (1.0, 2.0)


def test_a_key_tells_pictures_apart() -> None:
    ids, places = [1, 9, 9, 2, 9, 9, 3], [1, 2, 4, 5]
    ab, ac = cache_key(ids, places, ["a", "b"]), cache_key(ids, places, ["a", "c"])
    assert common_length(ab, ac) == 4
    assert common_length(ab, cache_key(ids, places, ["b", "a"])) == 1
    assert common_length(ab, ab) == 7
    touching = cache_key([1, 9, 9, 2], [1, 2], ["a", "b"])
    assert common_length(touching, cache_key([1, 9, 9, 2], [1, 2], ["a", "c"])) == 1
    assert np.array_equal(cache_key([1, 2], [], []), np.array([1, 2]))


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that prefill is what a first token waits for."""
    folder = tmp_path_factory.mktemp("larger")
    return checkpoints.build("qwen2_vl", folder, width=512, layers=6)


def test_turn_two_about_a_picture_comes_at_once(larger: Path) -> None:
    driver = Driver(EngineOptions(model_path=str(larger)))
    images = [picture("red", (112, 112))]
    first = [user("What is in this image? " + TEXT * 8, 0)]
    answer = driver.solo(job("1", first, images))
    second = [*first, assistant(answer.text), user("And how many?")]
    follow_up = driver.solo(job("2", second, images))
    waited = [result.done.timings.first_token_s for result in (answer, follow_up)]
    driver.close()
    assert follow_up.done.usage.cached_tokens > 100
    assert waited[1] <= 0.3 * waited[0]


def test_the_first_request_pays_nothing_for_being_first(drive: MakeDriver) -> None:
    """The middle one of five fresh engines: single figures are the machine's mood."""
    ratios = []
    for _ in range(5):
        driver, waited = drive(), []
        for number in range(11):
            made = job(str(number), f"{number} What is it?", [picture("red", (90, 60 + number))])
            waited.append(driver.solo(made).done.timings.first_token_s)
        ratios.append(waited[0] / float(np.median(waited[1:])))
    assert float(np.median(ratios)) <= 1.5

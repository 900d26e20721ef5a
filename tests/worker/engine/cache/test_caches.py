"""What is remembered between requests: for whom, how much, and what it is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_vlm.models import cache as kv

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import assistant, job, picture, user
from worker.engine.cache import kv as caches
from worker.engine.cache.keys import common_length
from worker.engine.prepare.preprocess import cache_key
from worker.engine.schedule.batches import Batches
from worker.engine.schedule.prefill import Prefill, Prefiller
from worker.engine.schedule.queue import PrefillQueue

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


def test_a_large_cache_is_copied_between_two_steps_of_the_others(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.schedule.queue.COPIED_APART_BYTES", 0)
    driver, alone = drive(), drive(prefix_cache_bytes=0)
    done: list[str] = []
    noted = ((PrefillQueue, "work"), (Prefiller, "advance"), (Prefiller, "keep"))
    for owner, name in (*noted, (Batches, "join")):
        original = getattr(owner, name)

        def noting(*args: Any, name: str = name, call: Any = original, **options: Any) -> Any:
            done.append(name)
            return call(*args, **options)

        monkeypatch.setattr(owner, name, noting)
    driver.submit(job("stream", "Go on.", max_tokens=400, ignore_eos=True))
    driver.until(lambda: driver.results["stream"].tokens)
    done.clear()
    newcomer = job("newcomer", TEXT, max_tokens=200, ignore_eos=True)
    driver.submit(newcomer)
    driver.until(lambda: "join" in done)
    assert done[-5:] == ["advance", "work", "keep", "work", "join"]
    again = job("again", TEXT)
    driver.submit(again)  # while the one it was copied from still decodes
    driver.until(lambda: driver.results["again"].over and driver.results["newcomer"].over)
    usage = driver.results["again"].done.usage
    assert usage.cached_tokens == usage.prompt_tokens - 1
    for made in (newcomer, again):
        assert driver.results[made[0].id].tokens == alone.solo(made).tokens


def test_a_prompt_in_pieces_is_not_copied_as_it_grows() -> None:
    row = [kv.KVCache()]
    piece = mx.ones((1, 2, 100, 4))
    with caches.room_for(row, 1000):
        row[0].update_and_fetch(piece, piece)
    shape = row[0].keys.shape
    for _ in range(9):
        with caches.room_for(row, 1000):
            row[0].update_and_fetch(piece, piece)
    assert row[0].keys.shape == shape == (1, 2, 1024, 4)
    row[0].update_and_fetch(piece, piece)
    assert row[0].keys.shape[2] == 1000 + 256  # an answer grows as ever


def test_prompts_computed_side_by_side_are_known_at_once(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    compute = Prefiller.together

    def noting(self: Prefiller, prefills: Sequence[Prefill]) -> Any:
        together.append(len(prefills))
        return compute(self, prefills)

    monkeypatch.setattr(Prefiller, "together", noting)
    driver, fresh = drive(), drive(prefix_cache_bytes=0)
    long: dict[str, Any] = {"max_tokens": 300, "ignore_eos": True}
    driver.submit_prepared(*(job(str(n), f"{n} " + TEXT * (n + 1), **long) for n in range(3)))
    driver.until(lambda: all(driver.results[str(n)].tokens for n in range(3)))
    assert together == [3] and driver.engine.gauges()["prefix_cache_misses"] == 3
    for n in range(3):
        again = job(f"again {n}", f"{n} " + TEXT * (n + 1))
        result = driver.solo(again)
        assert result.done.usage.cached_tokens == result.done.usage.prompt_tokens - 1
        assert result.tokens == fresh.solo(again).tokens
    assert not any(driver.results[str(n)].over for n in range(3))


def test_a_row_that_leaves_hands_its_cache_over(drive: MakeDriver) -> None:
    driver, fresh = drive(), drive(prefix_cache_bytes=0)
    first = driver.solo(job("1", TEXT))
    turns = [user(TEXT), assistant(first.text), user("And then?")]
    second = driver.solo(job("2", turns))
    assert second.tokens == fresh.solo(job("2", turns)).tokens
    assert second.done.usage.cached_tokens > first.done.usage.prompt_tokens
    assert driver.solo(job("3", TEXT)).tokens == first.tokens


def test_what_is_remembered_holds_no_more_memory_than_is_counted(drive: MakeDriver) -> None:
    """A copy that is not computed yet holds the whole batch that it is to be copied from."""
    driver = drive()
    engine = driver.engine

    def held_after(round_: int) -> float:
        """What is held besides; also a batch, if the device has not let go of it yet."""
        driver.run(
            *(job(f"{round_}-{n}", f"{n} {TEXT} {round_}", max_tokens=8 + n) for n in range(8))
        )
        return mx.get_active_memory() - engine.gauges()["prefix_cache_bytes"]

    held = [held_after(round_) for round_ in range(8)]
    one_batch = 8 * 256 * engine.gauges()["cache_bytes_per_token"]
    assert min(held[4:]) - min(held[:4]) < one_batch


def test_caches_keep_within_their_limits(drive: MakeDriver) -> None:
    limit = 200_000
    driver = drive(prefix_cache_bytes=limit, vision_cache_bytes=4_000)
    for number in range(12):
        driver.solo(job(str(number), f"{number} {TEXT * 3}", [picture("red", (60 + number, 60))]))
        gauges = driver.engine.gauges()
        assert 0 < gauges["prefix_cache_bytes"] <= limit
        assert 0 < gauges["vision_cache_bytes"] <= 4_000


def test_features_are_counted_and_shared_between_questions(drive: MakeDriver) -> None:
    driver = drive(prefix_cache_bytes=0)
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


def test_images_whose_places_are_unknown_share_no_prefix() -> None:
    ids = [1, 2, 3, 4]
    one = cache_key(ids, [], ["a"])
    assert common_length(one, cache_key(ids, [], ["b"])) == 0
    assert common_length(one, cache_key(ids, [], ["a", "b"])) == 0
    assert common_length(one, cache_key(ids, [], [])) == 0
    assert common_length(one, cache_key([9, 2, 3, 4], [], ["a"])) == 0
    assert common_length(one, cache_key([1, 2, 3, 5], [], ["a"])) == 3


def test_turn_two_about_a_picture_costs_only_what_is_new(drive: MakeDriver) -> None:
    """Counted in work, which other processes cannot disturb; the benchmark takes the time."""
    driver = drive()
    images = [picture("red", (112, 112))]
    first = [user("What is in this image? " + TEXT * 8, 0)]
    answer = driver.solo(job("1", first, images))
    second = [*first, assistant(answer.text), user("And how many?")]
    follow_up = driver.solo(job("2", second, images))
    computed = [
        result.done.usage.prompt_tokens - result.done.usage.cached_tokens
        for result in (answer, follow_up)
    ]
    assert computed[1] <= 0.3 * computed[0]
    assert driver.engine.gauges()["vision_cache_misses"] == 1


def test_the_first_request_pays_nothing_for_being_first(drive: MakeDriver) -> None:
    """In seconds of the processor, for the middle one of five fresh engines: the wall's clock
    tells more about other processes."""
    ratios = []
    for _ in range(5):
        driver, spent = drive(), []
        for number in range(7):
            started = time.process_time()
            driver.solo(job(str(number), f"{number} What?", [picture("red", (90, 60 + number))]))
            spent.append(time.process_time() - started)
        ratios.append(spent[0] / float(np.median(spent[1:])))
    assert float(np.median(ratios)) <= 1.5


def test_a_window_that_is_over_takes_its_last_token_back() -> None:
    """Prefilled in one piece for attention that looks ahead, which is longer than the window."""
    whole, apart = kv.RotatingKVCache(max_size=8), kv.RotatingKVCache(max_size=8)
    tokens = mx.arange(12.0).reshape(1, 1, 12, 1)
    whole.update_and_fetch(tokens, tokens)
    caches.trim([whole], 1)
    apart.update_and_fetch(tokens[..., :11, :], tokens[..., :11, :])
    for token in (11.0, 12.0):
        one = mx.array([[[[token]]]])
        seen, wanted = (cache.update_and_fetch(one, one)[0] for cache in (whole, apart))
        assert sorted(seen.reshape(-1).tolist()) == sorted(wanted.reshape(-1).tolist())
        assert whole.offset == apart.offset

"""Each quirk, by a family that has it: equal to mlx-vlm alone, in company and from the caches."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_vlm.models.deepseek_vl_v2 import Model

from scripts.family_sweep.one import sweep
from scripts.family_sweep.row import EQUAL
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job, picture
from worker.engine.model.inputs import off_mlx, to_mlx

OFF = {
    "gemma3n": [],  # tokens of an answer are embedded otherwise than a prompt's
    "gemma2": [],  # a mask for each group of heads
    "llama4": ["prefix_cache", "batching"],  # caches that drop what is over
    "minicpmo": [],  # positions left in the model's state, no placeholders
    "internlm2": ["batching", "speculation"],  # one offset for all rows
    "paligemma": ["batching", "speculation"],  # answers without a mask for padding
    "qwen3_omni_moe": [],  # deep features along the prompt, a mask cut by the rows' lengths
}


@pytest.mark.parametrize("name", OFF)
def test_what_is_served_is_equal_and_what_is_off_is_known(name: str) -> None:
    row = sweep(name)
    assert set(row.said.values()) == {EQUAL}, str(row)
    assert row.off == OFF[name]


def test_no_more_pictures_are_looked_for_than_there_are(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """deepseek_vl_v2 goes through as many sizes as there are tiles, up to one that is nothing."""
    embed = Model.get_input_embeddings
    seen = []

    def look(self: Any, ids: Any, pixel_values: Any, sizes: Any = None, **given: Any) -> Any:
        if pixel_values is not None:
            seen.append((pixel_values.shape[1], np.array(sizes)[0].all(axis=-1).tolist()))
        return embed(self, ids, pixel_values, sizes, **given)

    monkeypatch.setattr(Model, "get_input_embeddings", look)
    driver = drive("deepseek_vl_v2")
    for count in (1, 2):
        images = [picture("red"), picture("blue", (70, 120))][:count]
        assert driver.solo(job(str(count), "What is it?", images)).done
        tiles, told = seen.pop()
        assert len(told) == tiles > count and told == [True] * count + [False] * (tiles - count)


def test_arrays_come_back_from_the_host_as_what_they_were() -> None:
    half = mx.array([1.5, -2.0, 3e38]).astype(mx.bfloat16)
    own = np.array([1, 2])
    given = {"pixels": [half, [mx.array([[1, 2]]), own]], "words": ["a"], "none": None}
    taken = off_mlx(given)
    back = to_mlx(taken)
    assert back["pixels"][0].dtype == mx.bfloat16 and mx.array_equal(back["pixels"][0], half)
    assert mx.array_equal(back["pixels"][1][0], mx.array([[1, 2]]))
    assert back["pixels"][1][1] is own
    assert back["words"] == ["a"] and back["none"] is None

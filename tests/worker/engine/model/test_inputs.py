"""A prompt's inputs, cut anywhere, are its inputs."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from worker.engine.model.config import SamplingDefaults, sampling_defaults
from worker.engine.model.inputs import Embedded, off_mlx, to_mlx

LENGTH = 9
PICTURES = [False, True, True, False, True, True, True, False, False]


def embedded() -> Embedded:
    images = sum(PICTURES)
    return Embedded(
        embeds=mx.arange(LENGTH * 2).reshape(1, LENGTH, 2),
        aligned={
            "position_ids": mx.arange(3 * LENGTH).reshape(3, 1, LENGTH),
            "visual_pos_masks": mx.array([PICTURES]),
            "per_layer_inputs": mx.arange(LENGTH * 4).reshape(1, LENGTH, 4),
        },
        fixed={"deepstack_visual_embeds": [mx.arange(images * 2).reshape(images, 2)] * 2},
    )


@pytest.mark.parametrize("size", range(1, LENGTH + 1))
def test_the_parts_make_up_the_whole(size: int) -> None:
    whole = embedded()
    parts = [whole.part(at, min(at + size, LENGTH)) for at in range(0, LENGTH, size)]
    joined = mx.concatenate([embeds for embeds, _ in parts], axis=1)
    assert np.array_equal(joined, whole.embeds)
    for name, axis in (("position_ids", 2), ("per_layer_inputs", 1)):
        cut = mx.concatenate([inputs[name] for _, inputs in parts], axis=axis)
        assert np.array_equal(cut, whole.aligned[name])
    deep = [
        inputs["deepstack_visual_embeds"] for _, inputs in parts if "visual_pos_masks" in inputs
    ]
    for layer in range(2):
        cut = mx.concatenate([layers[layer] for layers in deep], axis=0)
        assert np.array_equal(cut, whole.fixed["deepstack_visual_embeds"][layer])
    for _, inputs in parts:
        if "visual_pos_masks" in inputs:
            seen = int(np.array(inputs["visual_pos_masks"]).sum())
            assert inputs["deepstack_visual_embeds"][0].shape[0] == seen


def test_deep_features_of_every_token_are_cut_with_it() -> None:
    """qwen3_omni_moe has one array for all its deep layers, [1, length, layers, width]."""
    whole = embedded()
    del whole.fixed["deepstack_visual_embeds"]
    deep = mx.arange(LENGTH * 6).reshape(1, LENGTH, 3, 2)
    whole.aligned["deepstack_visual_embeds"] = deep
    _, inputs = whole.part(2, 5)
    assert mx.array_equal(inputs["deepstack_visual_embeds"], deep[:, 2:5])


def test_three_rows_are_no_axes_of_a_position() -> None:
    """A prompt of three tokens: no axis is told from another by its length."""
    short = Embedded(
        embeds=mx.zeros((1, 3, 2)),
        aligned={"per_layer_inputs": mx.arange(9).reshape(1, 3, 3)},
    )
    _, inputs = short.part(1, 2)
    assert inputs["per_layer_inputs"].tolist() == [[[3, 4, 5]]]


def test_what_leaves_a_thread_comes_back_as_it_was() -> None:
    """Processors make arrays of MLX and of NumPy, alone and in lists, and models tell them
    apart."""
    made: dict[str, Any] = {
        "pixels": [mx.ones((2, 2)), mx.zeros(1)],
        "sizes": np.array([3]),
        "names": ("a", 4),
    }
    away = off_mlx(made)
    assert not any(isinstance(one, mx.array) for one in away["pixels"])
    back = to_mlx(away)
    assert [type(one) for one in back["pixels"]] == [mx.array, mx.array]
    assert mx.array_equal(back["pixels"][0], made["pixels"][0])
    assert back["sizes"] is made["sizes"] and back["names"] == ("a", 4)


def test_a_models_own_defaults_stand_in_for_what_is_left_out() -> None:
    assert sampling_defaults({}) == SamplingDefaults(temperature=1.0, top_p=1.0)
    assert sampling_defaults({"do_sample": False, "temperature": 0.6}).temperature == 0.0
    given = sampling_defaults({"do_sample": True, "temperature": 0.6, "top_k": 20})
    assert (given.temperature, given.top_k, given.top_p) == (0.6, 20, 1.0)

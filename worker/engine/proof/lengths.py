"""Lengths at which a model's attention or its caches change, and prompts that go beyond them.

A window that is over, a chunk that is dropped, a block that is full, more keys than an indexer
chooses: what is wrong there is not seen in a short prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx_vlm.models import cache as kv

from worker.engine.model.model import LoadedModel
from worker.engine.proof.questions import TEXTS, Question

LENGTH = re.compile(r".*(window|chunk|block)s?(_size|_len|_length)?|index_topk|step|max_size")
"""How mlx-vlm's configurations and caches call them."""
OTHER_PARTS = re.compile(r".*(vision|visual|image|audio|video|projector|sam|quantization).*")
LEAST_SHARED = 17
"""Tokens; fewer in common are not looked for among prompts seen before."""
MORE = 9
"""Tokens of a prompt of its own, after those that it shares."""
SPARE_WORDS = LEAST_SHARED + MORE
COST = 12
"""How many times its length in tokens all questions beyond one take, about."""


@dataclass(frozen=True)
class Beyond:
    """Prompts about one such length.

    Attributes:
        whole: goes a quarter beyond it.
        early: parts from `whole` before what lies within reach of its end.
        late: parts from `whole` beyond the length.
        up_to: ends one token before, so that its answer goes beyond.
    """

    whole: Question
    early: Question
    late: Question
    up_to: Question


def beyond(length: int, words: Sequence[int]) -> Beyond:
    """
    Args:
        words: tokens, twice as many as the length and `SPARE_WORDS`.
    """
    whole = length + length // 4 + 3
    other = words[whole : whole + MORE]
    early, late = max(LEAST_SHARED, length // 8), length + length // 8
    return Beyond(
        _question(f"beyond {length}", words[:whole]),
        _question(f"that part from those beyond {length}", [*words[:early], *other]),
        _question(f"that part from those beyond {length}", [*words[:late], *other]),
        _question(f"up to {length}", words[length : 2 * length - 1]),
    )


def _question(about: str, ids: Sequence[int]) -> Question:
    return Question(f"{len(ids)} tokens {about}", ids=tuple(ids))


def words_of(model: LoadedModel, count: int) -> list[int]:
    """So many tokens of plain words, in no order, which are always the same."""
    known = set(model.tokenizer.encode(" ".join(TEXTS), add_special_tokens=False))
    plain = sorted(t for t in known - model.family.placeholders if t < model.vocabulary)
    return [int(token) for token in np.random.default_rng(0).choice(plain, count)]


def lengths_of(model: LoadedModel) -> list[int]:
    """What the model itself declares, the shortest first; within its context."""
    most = model.context_tokens or np.inf
    found = {*_of_caches(model.new_cache()), *_of_configuration(model.network.config)}
    return sorted(n for n in found if n >= LEAST_SHARED and 2 * n < most)


def _of_caches(layers: Sequence[Any]) -> Iterator[int]:
    for layer in layers:
        if isinstance(layer, kv.CacheList):
            yield from _of_caches(layer.caches)
        else:
            yield from _declared({**vars(type(layer)), **vars(layer)})


def _of_configuration(part: Any) -> Iterator[int]:
    entries = part if isinstance(part, dict) else getattr(part, "__dict__", {})
    yield from _declared(entries)
    for name, value in entries.items():
        if not OTHER_PARTS.fullmatch(name) and (isinstance(value, dict) or "onfig" in name):
            yield from _of_configuration(value)


def _declared(entries: dict[str, Any]) -> Iterator[int]:
    for name, value in entries.items():
        if LENGTH.fullmatch(name) and type(value) is int:
            yield value

"""Image features are computed once per image and remembered.

While a prompt is embedded, a stand-in takes the place of the model's vision tower, so that every
family profits, whatever it does with the features afterwards (mlx-vlm's own
`cached_image_features` loses the deep features of Qwen3-VL). At all other times the model is as
mlx-vlm has made it.

Running streams must not wait for the whole of a newcomer's pictures. MLX is lazy: calling the
tower only describes the work. The stand-in notes what each of the tower's layers will yield and
has these computed one after the other, a few between two decode steps, for as many pictures at
the same time as there are streams.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from worker.engine.cache.vision import Features, VisionCache
from worker.engine.model.family import Split
from worker.engine.model.streams import Streams
from worker.engine.model.vision_calls import Item, taken_apart

ImageKeys = tuple[str, ...]
"""The hashes of a prompt's images, in order: who asks."""


MOST_LAYERS = 1000
"""More than any tower has: all of them."""


class MoreToEncode(Exception):
    """Images of this prompt are not computed yet."""


class NotedLayer:
    """Stands in for a layer of the tower; notes what it yields, to be computed in its turn."""

    def __init__(self, layer: nn.Module, notes: list[Any]) -> None:
        self._layer = layer
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._layer(*args, **kwargs)
        self._notes.append(result)
        return result


@dataclass
class Underway:
    """An image on its way through the tower.

    Attributes:
        askers: the prompts it belongs to.
        size: how many numbers its pixels are.
        layers: what is left to compute before the features, in order.
        error: what has failed, if anything has.
    """

    askers: set[ImageKeys]
    features: Features
    layers: deque[Any]
    size: int = 0
    done: bool = False
    error: Exception | None = None

    @property
    def left(self) -> int:
        """How many layers are left; what comes after the last counts as one."""
        return len(self.layers) + 1

    def next(self, count: int) -> Any:
        """What to compute to get on by so many layers."""
        if count >= self.left:
            return self.rest()
        for _ in range(count - 1):
            self.layers.popleft()  # those after it cannot be computed without it
        return self.layers.popleft()

    def rest(self) -> Any:
        """What to compute to get it done."""
        self.layers.clear()
        self.done = True
        return self.features


class CachedVisionTower:
    """Called like the tower it wraps; knows what it remembers and sets the rest on its way.

    A call whose images are not all computed raises `MoreToEncode`; `advance` computes them, and
    the same call then returns. `standing_in` says whose images the calls bring, `end` that they
    have been used. In between, features are held whatever the cache's limit.

    Images whose keys and values are known already need no features: where the shapes of theirs are
    known, blank ones take their places.

    Args:
        network: the model whose tower it is.
        path: where the tower lies in it, with dots.

    Attributes:
        split: how calls are taken apart into one for each image.
        underway: the images that somebody still asks for, computed or not.
    """

    def __init__(
        self, network: nn.Module, path: str, split: Split, cache: VisionCache, streams: Streams
    ) -> None:
        *above, self._name = path.split(".")
        for name in above:
            network = network[name]
        self._owner = network
        self._tower = network[self._name]
        self.split = split
        self._vision_cache = cache
        self._streams = streams
        self._asker: ImageKeys = ()
        self._spared = 0
        self._call = 0
        self.underway: dict[tuple[object, ...], Underway] = {}
        self._started = 0
        self._layer = (0, 0.0)
        """The size of the image whose layers were computed last, and the seconds of each."""
        self._layers = list(_layer_lists(self._tower))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    @contextlib.contextmanager
    def standing_in(self, asker: ImageKeys, spared: int = 0) -> Iterator[None]:
        """Calls of the model's tower come here, from this prompt, from its first image on.

        Args:
            spared: how many of its first images need no features.
        """
        self._asker, self._spared = asker, spared
        self._call = 0
        self._owner[self._name] = self
        try:
            yield
        finally:
            self._owner[self._name] = self._tower

    def end(self, asker: ImageKeys) -> None:
        """This prompt has got its features."""
        for image in self.underway.values():
            image.askers.discard(asker)
        self._drop_unwanted()

    def keep_only(self, askers: Collection[ImageKeys]) -> None:
        """Let go of what other prompts had set on its way: they will not come, or begin anew."""
        for image in self.underway.values():
            image.askers.intersection_update(askers)
        self._drop_unwanted()

    def knows(self, asker: ImageKeys) -> bool:
        """Whether this prompt's images are on their way, or there."""
        return any(asker in image.askers for image in self.underway.values())

    def has_done(self, asker: ImageKeys) -> bool:
        """Whether they are all there, or have failed."""
        return self.knows(asker) and all(
            image.done for image in self.underway.values() if asker in image.askers
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Features:
        self._call += 1
        items = taken_apart(Item(args, kwargs), self.split)
        own = self._split_by_image(len(items))
        parts = []
        for index, item in enumerate(items):
            key = self._key(index, item, own=own)
            blank = self._vision_cache.blank(key) if self._is_spared(index, own=own) else None
            parts.append(self._found(key, item) if blank is None else blank)
        if any(part is None for part in parts):
            raise MoreToEncode
        if len(parts) == 1:
            return parts[0]
        return tree_map(lambda *leaves: _joined(leaves), parts[0], *parts[1:])

    def advance(self, asker: ImageKeys, deadline: float) -> None:
        """Compute until this prompt's images are done or it is so late, at least by a layer.

        Images of other prompts get on meanwhile where there is a stream for them. What fails,
        fails in the call of its own prompt.

        Args:
            deadline: as `time.perf_counter` tells it.
        """
        while any(asker in image.askers and not image.done for image in self.underway.values()):
            unfinished = (item for item in self.underway.items() if not item[1].done)
            self._advance(dict(islice(unfinished, len(self._streams))), deadline)
            if not self._has_time(deadline):
                return

    def _has_time(self, deadline: float) -> bool:
        """Whether another layer, which takes about as long as the last one, is done by then."""
        return time.perf_counter() + self._layer[1] <= deadline

    def _split_by_image(self, items: int) -> bool:
        """Whether this call's items are one for each of the prompt's images."""
        return self.split is not Split.NOT and items == len(self._asker) and self._call == 1

    def _is_spared(self, index: int, *, own: bool) -> bool:
        if own:
            return index < self._spared
        return 0 < self._spared == len(self._asker)

    def _key(self, index: int, item: Item, *, own: bool) -> tuple[object, ...]:
        """Whose features these are: every image's own, by its hash, if its family's calls bring
        one item for each. Else those of all the prompt's images, in their order: which of them
        a call, or a tile, belongs to is the model's affair."""
        owner = self._asker[index] if own else (self._asker, index)
        return owner, self._call, item.shapes

    def _found(self, key: tuple[object, ...], item: Item) -> Features | None:
        """An image's features; None if they are not computed yet."""
        image = self.underway.get(key)
        if image is None:
            features = self._vision_cache.get(key)
            if features is None:
                self.underway[key] = self._start(item)
                return None
            self._vision_cache.hits += 1
            self.underway[key] = Underway({self._asker}, features, deque(), done=True)
            return features
        image.askers.add(self._asker)
        if image.error is not None:
            del self.underway[key]
            raise image.error
        return image.features if image.done else None

    def _start(self, item: Item) -> Underway:
        with mx.stream(self._streams.stream(self._started)), _noting(self._layers) as notes:
            features = self._tower(*item.args, **item.kwargs)
        self._started += 1
        return Underway({self._asker}, features, deque(notes), item.size)

    def _advance(self, images: dict[tuple[object, ...], Underway], deadline: float) -> None:
        """Compute layers, as many at once as the time seems to allow, until an image is done.

        Waiting for the device after every layer would cost more than a small layer itself.
        """
        size = max(image.size for image in images.values())
        while True:
            started = time.perf_counter()
            together = self._layers_within(deadline - started, size)
            layers = max(image.left for image in images.values())
            due = [image.next(together) for image in images.values()]
            self._compute(list(images.values()), due)
            done = {key: image for key, image in images.items() if image.done}
            for key, image in done.items():
                self._note_done(key, image)
            spent = time.perf_counter() - started
            self._layer = (size, spent / min(together, layers))
            if done or not self._has_time(deadline):
                return

    def _layers_within(self, seconds: float, size: int) -> int:
        """How many layers to compute at once. Attention takes the square of an image's size."""
        if seconds == math.inf:
            return MOST_LAYERS
        known, each_s = self._layer
        if not known:
            return 1
        growth = size / known
        each_s *= growth * max(1.0, growth)
        return max(1, min(MOST_LAYERS, int(seconds / max(each_s, 1e-6))))

    def _compute(self, images: Sequence[Underway], due: Sequence[Any]) -> None:
        try:
            self._streams.compute(due)
        except Exception:
            # Whose fault it was is not known: each is tried alone.
            for image in images:
                try:
                    self._streams.compute([image.rest()])
                except Exception as error:
                    image.error = error

    def _note_done(self, key: tuple[object, ...], image: Underway) -> None:
        if image.error is None:
            self._vision_cache.misses += 1
            self._vision_cache.put(key, image.features)

    def _drop_unwanted(self) -> None:
        self.underway = {key: image for key, image in self.underway.items() if image.askers}


def _layer_lists(module: nn.Module) -> Iterator[list[Any]]:
    """Every list of equal layers within the tower."""
    # Not `children()`: its lists are copies.
    for child in module.values():
        if isinstance(child, nn.Module):
            yield from _layer_lists(child)
        elif isinstance(child, list) and _are_layers(child):
            yield child


def _are_layers(items: list[Any]) -> bool:
    return len({type(item) for item in items}) == 1 and isinstance(items[0], nn.Module)


@contextlib.contextmanager
def _noting(lists: Sequence[list[Any]]) -> Iterator[list[Any]]:
    """What the layers yield meanwhile, in the order they are called."""
    notes: list[Any] = []
    originals = [list(layers) for layers in lists]
    for layers in lists:
        layers[:] = [NotedLayer(layer, notes) for layer in layers]
    try:
        yield notes
    finally:
        for layers, own in zip(lists, originals, strict=True):
            layers[:] = own


def _joined(leaves: tuple[Any, ...]) -> Any:
    if isinstance(leaves[0], mx.array):
        return mx.concatenate(list(leaves), axis=0)
    return leaves[0]

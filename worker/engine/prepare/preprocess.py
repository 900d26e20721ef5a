"""What can be done beside the engine thread: prompts, tokens, pixels.

Runs on a small pool of threads. MLX's streams belong to threads, so whatever a processor makes
with MLX is taken off it before it leaves its thread.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from mlx_vlm.utils import prepare_inputs, should_add_special_tokens
from PIL import Image, ImageOps, UnidentifiedImageError

from shared.messages import Job
from worker.engine.faults import JobFault
from worker.engine.model.inputs import off_mlx
from worker.engine.model.model import LoadedModel
from worker.engine.prepare.picture_size import (
    check_obeyed,
    image_keys,
    processor_options,
    scaled,
)
from worker.engine.prepare.prompt import PromptWriter
from worker.engine.prepare.tokens import Listed, TextTokenizer, Tokens

Key = npt.NDArray[np.int64]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Pillow would open forty others, some of them by starting programs."""


@dataclass(frozen=True)
class Prompt:
    """A job's prompt as the engine takes it.

    Attributes:
        text: what the template rendered.
        ids: its tokens, placeholders for image features among them.
        key: the tokens, each image's placeholders replaced by numbers made of its hash.
        inputs: what the processor made of the images, off MLX; empty without images.
        image_keys: the images' hashes, in order.
        image_tokens: how many of them stand for images.
        image_ends: where what concerns each image ends among its tokens.
        seconds: how long it took.
        prediction: the tokens of what the client expects to be answered.
        marked: its text, marked where a client's text in it spells a control token: what is bare
            there is the template's.
    """

    text: str
    ids: list[int]
    key: Key
    inputs: dict[str, Any] = field(default_factory=dict)
    image_keys: tuple[str, ...] = ()
    image_tokens: int = 0
    image_ends: tuple[int, ...] = ()
    seconds: float = 0.0
    marked: str = ""
    prediction: tuple[int, ...] = ()

    @property
    def images_end(self) -> int:
        """Where what concerns images ends among its tokens; 0 without images."""
        return max(self.image_ends, default=0)

    def of_length(self, length: int) -> Prompt:
        """The prompt as a network has taken it that made so many embeddings of it.

        Some put other numbers of features in the places of their placeholders. Which embedding
        stands for which token is then not known up to the last image: all before it becomes one
        whole in the key, shared with the same start and the same images only.
        """
        if length == len(self.ids):
            return self
        head, tail = self.ids[: self.images_end], self.ids[self.images_end :]
        room = length - len(tail)
        if not head or room <= 0:
            raise ValueError(f"{length} embeddings cannot stand for {len(self.ids)} tokens")
        key = np.array([_negative(",".join(map(str, [*head, *self.image_keys])))] * room + tail)
        ids = [*head, *[head[-1]] * (room - len(head))][:room] + tail
        image_tokens = self.image_tokens + length - len(self.ids)
        ends = (room,) * len(self.image_ends)
        return replace(self, ids=ids, key=key, image_tokens=image_tokens, image_ends=ends)


class Preprocessor:
    """Thread-safe: tokenizers and processors are only read."""

    def __init__(self, model: LoadedModel, writer: PromptWriter) -> None:
        self._model = model
        self._writer = writer
        self._tokenizer = TextTokenizer(model.tokenizer)

    def prepare(self, job: Job, images: Sequence[bytes]) -> Prompt:
        """
        Raises:
            JobFault: a bad image, a conversation the template refuses, too long a prompt.
        """
        started = time.perf_counter()
        limit = self._model.context_tokens
        marked, tokens, inputs = self._read(job, images, limit)
        check_length(len(tokens), limit, job)
        ids = tokens.ids
        self._check_tokens(ids, job)
        self._check_biases(job)
        pictures = image_keys(job, images)
        places = [i for i, token in enumerate(ids) if token in self._model.family.placeholders]
        if places and places[-1] == len(ids) - 1:
            raise JobFault("invalid_request", "The prompt must not end with an image.", "messages")
        apart = self._model.splits_pictures
        return Prompt(
            text=self._writer.literals.plain(marked),
            ids=ids,
            key=cache_key(ids, places, pictures, apart=apart),
            inputs=inputs,
            image_keys=pictures,
            image_tokens=len(places) if images else 0,
            image_ends=image_ends(len(ids), places, len(images), apart=apart),
            prediction=self._expected(job),
            seconds=time.perf_counter() - started,
            marked=marked,
        )

    def _expected(self, job: Job) -> tuple[int, ...]:
        if not job.prediction:
            return ()
        limit = self._model.context_tokens
        if limit is not None and self._tokenizer.fewest(job.prediction) >= limit:
            words = f"The prediction is longer than any answer, which has at most {limit} tokens."
            raise JobFault("invalid_request", words, "prediction")
        return tuple(self._tokenizer.read(job.prediction).ids)

    def read(self, job: Job, images: Sequence[bytes]) -> tuple[Tokens, dict[str, Any]]:
        """Return the prompt's tokens and what was made of the images, however long it is.

        Raises:
            JobFault: a bad image, a conversation the template refuses.
        """
        _, tokens, inputs = self._read(job, images)
        return tokens, inputs

    def _read(
        self, job: Job, images: Sequence[bytes], limit: int | None = None
    ) -> tuple[str, Tokens, dict[str, Any]]:
        """Return the prompt's marked text, its tokens, and what was made of the images.

        Args:
            limit: of tokens; a text that has more, however it is read, is refused unread.
        """
        if job.prompt_ids:
            self._check_tokens(job.prompt_ids, job)
            if self._model.family.placeholders.intersection(job.prompt_ids):
                words = "The prompt has tokens that stand for images, and no image."
                raise JobFault("invalid_request", words, "prompt")
            said = str(self._model.tokenizer.decode(job.prompt_ids))
            return self._writer.literals.without_media(said), Listed(list(job.prompt_ids)), {}
        self._check_pictures(len(images))
        text = self._writer.write(job)
        self._check_fewest(text, limit, job)
        options = processor_options(self._model.processor, job) if images else {}
        pictures = [
            scaled(decode_image(data, index), info)
            for index, (data, info) in enumerate(zip(images, job.images, strict=True))
        ]
        tokens, inputs = self._process(text, pictures, options)
        check_obeyed(self._model.processor, options, inputs)
        if not len(tokens):
            raise JobFault("invalid_request", "The prompt is empty.", "messages")
        return text, tokens, inputs

    def _check_fewest(self, marked: str, limit: int | None, job: Job) -> None:
        if limit is not None and self._tokenizer.fewest(marked) >= limit:
            fewest = self._tokenizer.fewest(self._writer.literals.plain(marked))
            check_length(fewest, limit, job, exactly=False)

    def _process(
        self, text: str, images: list[Image.Image], options: dict[str, int]
    ) -> tuple[Tokens, dict[str, Any]]:
        tokenizer = self._model.tokenizer
        bos = tokenizer.bos_token
        add_special = should_add_special_tokens(self._model.model_type, self._model.processor)
        if bos and text.startswith(bos):
            add_special = False
        if not images:
            return self._tokenizer.read(text, add_special_tokens=add_special), {}
        try:
            found = prepare_inputs(
                self._model.processor,
                images=images,
                prompts=text,
                image_token_index=self._model.family.image_token_index,
                add_special_tokens=add_special,
                **options,
            )
        except (ValueError, TypeError, IndexError, KeyError, AssertionError, RuntimeError) as error:
            raise JobFault(
                "invalid_image", f"The model cannot take these images: {error}", "messages"
            ) from error
        inputs = {name: off_mlx(value) for name, value in found.items() if value is not None}
        ids = token_ids(found)
        del inputs["input_ids"]
        if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
            # Some processors add the start token that the template has written already.
            ids = ids[1:]
            inputs.pop("attention_mask", None)
        return Listed(ids), inputs

    def _check_pictures(self, count: int) -> None:
        abilities, family = self._model.abilities, self._model.family
        if count and not family.abilities.pictures:
            raise JobFault("invalid_request", "This model takes no images.", "messages")
        if count and not abilities.pictures:
            raise JobFault(
                "invalid_request",
                "This model's answers about images were found to be wrong on this worker, which "
                "takes none for it. Its log says why.",
                "messages",
            )
        if count > 1 and not abilities.several_pictures:
            raise JobFault(
                "invalid_request",
                f"This model takes one image in a request; this one has {count}.",
                "messages",
            )

    def _check_tokens(self, ids: Sequence[int], job: Job) -> None:
        """Refuse tokens that the model does not have: looking one up reads foreign memory and ends
        the process. A tokenizer may know more than its model, and a gateway may be told anything.
        """
        resumed = (token for point in job.resume for token in point.tokens)
        # Placeholders may have any number: features stand there before anything is looked up.
        own = set(ids) - (self._model.family.placeholders if job.images else frozenset())
        if max(itertools.chain(own, resumed), default=0) >= self._model.vocabulary:
            raise JobFault(
                "invalid_request",
                "The prompt has tokens that this model has not.",
                "prompt" if job.prompt_ids else None,
            )

    def _check_biases(self, job: Job) -> None:
        highest = max(job.sampling.logit_bias, default=0)
        if highest >= self._model.vocabulary:
            raise JobFault(
                "invalid_request",
                f"This model's tokens are 0 to {self._model.vocabulary - 1}.",
                f"logit_bias.{highest}",
            )


def check_length(length: int, limit: int | None, job: Job, *, exactly: bool = True) -> None:
    """
    Args:
        length: of the prompt, in tokens.
        limit: of prompt and answer; None: unknown.
        exactly: else the prompt has so many at least.

    Raises:
        JobFault: there is no room for an answer.
    """
    if limit is not None and length >= limit:
        part = "messages" if job.messages else "prompt"
        told = f"{length} tokens" if exactly else f"at least {length} tokens"
        raise JobFault(
            "context_length_exceeded",
            # Agents look for these words, and then shorten the conversation by themselves.
            f"This model's maximum context length is {limit} tokens. However, your {part} "
            f"resulted in {told}. Shorten it, or send fewer or smaller images.",
            part,
            (length, limit),
        )


def decode_image(data: bytes, index: int = 0) -> Image.Image:
    """Return the picture upright, in RGB, on white where it is transparent.

    Raises:
        JobFault: the data cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            upright = _in_8_bits(ImageOps.exif_transpose(opened))
            if upright.has_transparency_data:
                layer = upright.convert("RGBA")
                ground = Image.new("RGBA", layer.size, "white")
                return Image.alpha_composite(ground, layer).convert("RGB")
            return upright.convert("RGB")
    except UnidentifiedImageError:
        words = f"Image {index + 1} is not a PNG, JPEG, WebP or GIF image."
        raise JobFault("invalid_image", words, "messages") from None
    # A boundary: decoders raise whatever their parsing runs into, and it costs this job alone.
    except Exception as error:
        raise JobFault(
            "invalid_image", f"Image {index + 1} cannot be decoded: {error}", "messages"
        ) from error


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grays, which Pillow would cut off at 255: all but the darkest as white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image, np.int64) >> 8).clip(0, 255).astype(np.uint8))


def cache_key(
    ids: Sequence[int], places: Sequence[int], image_keys: Sequence[str], *, apart: bool = True
) -> Key:
    """Tokens with each image placeholder replaced by a negative number made of its image.

    When the runs of placeholders are as many as the images, each run belongs to one image.
    Otherwise (tiles, images that touch) every placeholder stands for all images in their order:
    such a prompt shares a prefix with another only up to its first image or with the same images.

    Where no placeholders are known, images may have their part in any token: the first one stands
    for all of them, and the prompt shares nothing but with the same images.

    Args:
        apart: whether the model makes the same of an image in any company; if not, each stands for
            all of them.
    """
    key = np.array(ids, dtype=np.int64)
    if not image_keys:
        return key
    if not places:
        key[0] = _negative(",".join([str(ids[0]), *image_keys]))
        return key
    runs = _runs(places)
    own = apart and len(runs) == len(image_keys)
    owners = list(image_keys) if own else [",".join(image_keys)] * len(runs)
    for (start, stop), owner in zip(runs, owners, strict=True):
        key[start:stop] = _negative(owner)
    return key


def image_ends(
    length: int, places: Sequence[int], images: int, *, apart: bool = True
) -> tuple[int, ...]:
    """Where each of so many images ends in a prompt of that length; as `cache_key` has them, where
    it is not known of each the end of all."""
    if not places:
        return (length,) * images
    ends = [stop for _, stop in _runs(places)]
    return tuple(ends) if apart and len(ends) == images else (ends[-1],) * images


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Where placeholders stand in a row: from, and up to."""
    breaks = [i for i in range(1, len(places)) if places[i] - places[i - 1] > 1]
    pairs = itertools.pairwise([0, *breaks, len(places)])
    return [(places[start], places[stop - 1] + 1) for start, stop in pairs]


def _negative(owner: str) -> int:
    digest = hashlib.blake2b(owner.encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 2)


def token_ids(found: Mapping[str, Any]) -> list[int]:
    """The one prompt's tokens in what a processor has made."""
    return [int(token) for token in np.asarray(found["input_ids"]).reshape(-1)]

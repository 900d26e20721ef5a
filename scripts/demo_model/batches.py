"""Batches of conversations, made on the fly by worker processes."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerFast

from scripts.demo_model.images import MERGE, PATCH, Patches, to_patches
from scripts.demo_model.network import NOT_LEARNT, Batch
from scripts.demo_model.questions import QUESTION_KINDS, Example, random_question
from scripts.demo_model.regions import LESSONS, token_lessons
from scripts.demo_model.scenes import Scene, random_file, random_scene
from scripts.demo_model.structured.examples import random_example, tool_examples
from scripts.demo_model.structured.masks import AnswerMasks
from scripts.demo_model.tokenizer import VOCABULARY_SIZE

IMAGE_PAD = "<|image_pad|>"
TURN_START = "<|im_start|>"
ANSWER_START, ANSWER_END = "<|im_start|>assistant\n", "<|im_end|>"

KIND_SHARES: dict[str, int] = {
    "captions": 6,
    "counts": 5,
    "colors": 3,
    "shapes": 5,
    "places": 8,
    "yes/no": 5,
    "two images": 22,
    "several turns": 40,
    "text only": 13,
    "no image": 3,
    "json": 50,
    "tools": 8,  # each of SAME_TOOLS conversations
    "foreign": 10,
}
SAME_TOOLS = 5
CALL_SHARE = 0.8  # of conversations with tools in which one must be called
POOL_SIZE = 1500  # scenes kept for more conversations, per worker
SORTED_BATCHES = 8  # batches made at once, of conversations of like length


@dataclass(frozen=True)
class Sample:
    """A rendered conversation, or several with one beginning, and the images.

    The beginning is there once; each conversation's own part sees it and nothing of the others.
    """

    tokens: list[int]
    places: NDArray[np.int64]  # (3, L), see `positions`
    parts: NDArray[np.int64]  # (L,): 0 for the beginning, else the number of the conversation
    learnt: list[bool]  # (L,): which tokens are answers
    allowed: NDArray[np.bool_]  # (learnt tokens, VOCABULARY_SIZE): what may stand in their place
    images: list[Patches]
    lessons: list[NDArray[np.int64]]  # of each image's tokens


class ScenePool:
    """Drawn scenes, each used for a few conversations before another takes its place."""

    def __init__(self, uses: float) -> None:
        self.uses = uses
        self.scenes: list[Scene] = []
        # Patches go when the last conversation that shows the scene is gone.
        self.patches: WeakKeyDictionary[Scene, Patches] = WeakKeyDictionary()

    def draw(self, rng: random.Random) -> Scene:
        """A scene whose patches are ready."""
        full = len(self.scenes) == POOL_SIZE
        index = rng.randrange(POOL_SIZE)
        if full and rng.random() > 1 / self.uses:
            return self.scenes[index]
        scene = random_scene(rng)
        self.patches[scene] = file_patches(scene, rng)
        if full:
            self.scenes[index] = scene
        else:
            self.scenes.append(scene)
        return scene


def file_patches(scene: Scene, rng: random.Random) -> Patches:
    """The scene's patches after a trip through a file of any format."""
    data, _ = random_file(scene, rng)
    return to_patches(Image.open(io.BytesIO(data)))


def render(
    example: Example,
    images: list[Patches],
    tokenizer: PreTrainedTokenizerFast,
    masks: AnswerMasks,
) -> Sample:
    """The conversation as the server's prompt, followed by its answer."""
    answer = {"role": "assistant", "content": example.answer}
    text = tokenizer.apply_chat_template(
        [*example.messages, answer], tools=example.request.get("tools"), tokenize=False
    )
    for image in images:
        text = text.replace(IMAGE_PAD, "\0" * image.tokens, 1)
    text = text.replace("\0", IMAGE_PAD)
    learnt = np.zeros(len(text) + 1, dtype=bool)
    # What is called in a conversation was forced; nothing is to be learnt of how it is written.
    start = text.rfind(ANSWER_START) if example.request else text.find(ANSWER_START)
    while start >= 0:
        end = text.index(ANSWER_END, start)
        learnt[start + len(ANSWER_START) : end + len(ANSWER_END)] = True
        start = text.find(ANSWER_START, end)
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    lessons = [
        token_lessons(scene, image.rows // MERGE, image.columns // MERGE)
        for scene, image in zip(example.scenes, images, strict=True)
    ]
    learnt_tokens = [bool(learnt[begin]) for begin, _ in encoding.offsets]
    answered = np.array(encoding.ids)[learnt_tokens].tolist()
    allowed = masks.of(example.request, answered)
    if allowed is None:
        allowed = np.ones((len(answered), VOCABULARY_SIZE), dtype=bool)
    places = positions(encoding.ids, images, tokenizer.convert_tokens_to_ids(IMAGE_PAD))
    parts = np.zeros(len(encoding.ids), dtype=np.int64)
    return Sample(encoding.ids, places, parts, learnt_tokens, allowed, images, lessons)


def joined(samples: list[Sample], turn_token: int) -> Sample:
    """Conversations that have their first turn in common, as one sample."""
    begin = samples[0].tokens.index(turn_token, 1)
    beginning = samples[0].tokens[:begin]
    if any(sample.tokens[: begin + 1] != [*beginning, turn_token] for sample in samples):
        raise ValueError("these conversations do not begin alike")
    own = [np.full(len(one.tokens) - begin, n) for n, one in enumerate(samples, start=1)]
    return Sample(
        [*beginning, *(token for one in samples for token in one.tokens[begin:])],
        np.concatenate([samples[0].places[:, :begin], *(s.places[:, begin:] for s in samples)], 1),
        np.concatenate([np.zeros(begin, dtype=np.int64), *own]),
        [False] * begin + [learnt for one in samples for learnt in one.learnt[begin:]],
        np.concatenate([one.allowed for one in samples]),
        [image for one in samples for image in one.images],
        [lesson for one in samples for lesson in one.lessons],
    )


def positions(tokens: list[int], images: list[Patches], image_token: int) -> NDArray[np.int64]:
    """(3, L): an image's tokens share one time and have rows and columns, text moves all three."""
    result = np.zeros((3, len(tokens)), dtype=np.int64)
    waiting = iter(images)
    index, position = 0, 0
    while index < len(tokens):
        if tokens[index] != image_token:
            result[:, index] = position
            index, position = index + 1, position + 1
            continue
        image = next(waiting)
        rows, columns = image.rows // MERGE, image.columns // MERGE
        block = result[:, index : index + image.tokens]
        block[:] = position
        block[1] += np.repeat(np.arange(rows), columns)
        block[2] += np.tile(np.arange(columns), rows)
        index, position = index + image.tokens, position + max(rows, columns)
    return result


def patch_places(image: Patches) -> NDArray[np.int64]:
    """(patches, 2): row and column of each patch, in the processor's order."""
    grid: NDArray[np.int64] = np.moveaxis(np.mgrid[: image.rows, : image.columns], 0, -1)
    blocks = grid.reshape(image.rows // MERGE, MERGE, image.columns // MERGE, MERGE, 2)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def collate(samples: list[Sample]) -> Batch:
    """Pad the samples, and their images, to one length each."""
    length = max(len(sample.tokens) for sample in samples) - 1
    images = [image for sample in samples for image in sample.images]
    most = max((len(image.pixels) for image in images), default=1)
    tokens = np.zeros((len(samples), length), dtype=np.int64)
    targets = np.full((len(samples), length), NOT_LEARNT, dtype=np.int64)
    places3 = np.zeros((3, len(samples), length), dtype=np.int64)
    parts = np.zeros((len(samples), length), dtype=np.int64)
    for row, sample in enumerate(samples):
        ids, end = np.array(sample.tokens), len(sample.tokens) - 1
        tokens[row, :end] = ids[:-1]
        targets[row, :end] = np.where(sample.learnt[1:], ids[1:], NOT_LEARNT)
        places3[:, row, :end] = sample.places[:, :-1]
        parts[row, :end] = sample.parts[:-1]
    pixels = np.zeros((len(images), most, 3 * PATCH**2), dtype=np.uint8)
    places = np.zeros((len(images), most, 2), dtype=np.int64)
    present = np.zeros((len(images), most), dtype=bool)
    for index, image in enumerate(images):
        count = len(image.pixels)
        pixels[index, :count] = image.pixels
        places[index, :count] = patch_places(image)
        present[index, :count] = True
    empty = np.zeros((0, len(LESSONS)), dtype=np.int64)
    lessons = np.concatenate([empty, *(one for sample in samples for one in sample.lessons)])
    allowed = np.concatenate([sample.allowed for sample in samples])
    arrays = (tokens, places3, parts, targets, allowed, pixels, places, present, lessons)
    return Batch(*(torch.from_numpy(array) for array in arrays))


class Batches(IterableDataset[Batch]):
    """An endless stream of batches; worker n of a run with seed s starts from (s, n)."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int, uses: float
    ) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.seed = seed
        self.uses = uses

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        rng = random.Random(f"{self.seed} {worker.id if worker else 0}")
        pool = ScenePool(self.uses)
        masks = AnswerMasks(self.tokenizer, VOCABULARY_SIZE)
        while True:
            samples = [
                self.sample(pool, masks, rng) for _ in range(self.batch_size * SORTED_BATCHES)
            ]
            samples.sort(key=lambda sample: len(sample.tokens))
            starts = list(range(0, len(samples), self.batch_size))
            rng.shuffle(starts)
            for start in starts:
                yield collate(samples[start : start + self.batch_size])

    def sample(self, pool: ScenePool, masks: AnswerMasks, rng: random.Random) -> Sample:
        """A conversation of a random kind, or several with the same tools."""
        kind = rng.choices(tuple(KIND_SHARES), weights=tuple(KIND_SHARES.values()))[0]
        if kind == "tools":
            examples = tool_examples(SAME_TOOLS, CALL_SHARE, rng, pool.draw)
        elif kind in QUESTION_KINDS:
            examples = [random_question(kind, rng, pool.draw)]
        else:
            examples = [random_example(kind, rng, pool.draw)]
        samples = [
            render(one, [pool.patches[scene] for scene in one.scenes], self.tokenizer, masks)
            for one in examples
        ]
        if len(samples) == 1:
            return samples[0]
        return joined(samples, self.tokenizer.convert_tokens_to_ids(TURN_START))


def batch_loader(dataset: Batches, workers: int) -> DataLoader[Batch]:
    """Batches made by `workers` processes beside the training."""
    prefetch = 2 * SORTED_BATCHES if workers else None
    return DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=prefetch)

"""What a model is asked to prove it: a few short prompts of unlike lengths, with and without
pictures."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shared.messages import ChatMessage, ImageInfo, ImagePart, Job, Sampling, TextPart

TOKENS = 3
"""Of each answer: what is computed from the prompt's last token, and from one and two more."""
ALTERNATIVES = 20
TEXTS = (
    "Hello.",
    "What is the capital of France?",
    "One, two, three, four, five, six, seven, eight: which numbers of these are even?",
)
LONG = TEXTS[2]
GREEDY = Sampling(seed=0, temperature=0.0)


@dataclass(frozen=True)
class Question:
    """A job and its pictures; `name` is its own among all questions.

    Attributes:
        ids: the tokens of the whole prompt, instead of messages.
    """

    name: str
    messages: tuple[ChatMessage, ...] = ()
    pictures: tuple[bytes, ...] = ()
    ids: tuple[int, ...] = ()

    def job(self, job_id: str, *, raw: bool, tokens: int = TOKENS, salt: str = "") -> Job:
        """
        Args:
            raw: for models without a usable template: a text is the whole prompt.
            tokens: of the answer.
            salt: the tenant's who asks.
        """
        plain = raw and not self.pictures and not self.ids
        return Job(
            id=job_id,
            answer_id=job_id,
            request_id=job_id,
            model="",
            stream=True,
            sampling=GREEDY,
            messages=[] if plain else list(self.messages),
            prompt=_text(self.messages) if plain else None,
            prompt_ids=list(self.ids),
            images=[_info(data) for data in self.pictures],
            max_tokens=tokens,
            ignore_eos=True,
            logprobs=ALTERNATIVES,
            cache_salt=salt,
        )


def _text(messages: Sequence[ChatMessage]) -> str:
    parts = [part for message in messages for part in message.content]
    return " ".join(part.text for part in parts if isinstance(part, TextPart))


def _info(data: bytes) -> ImageInfo:
    digest = hashlib.sha256(data).hexdigest()
    return ImageInfo(sha256=digest, media_type="image/png", width_px=0, height_px=0)


def _user(text: str, *pictures: int) -> ChatMessage:
    return ChatMessage("user", [*(ImagePart(index) for index in pictures), TextPart(text)])


def _said(text: str) -> ChatMessage:
    return ChatMessage("assistant", [TextPart(text)])


def _picture(seed: int, width: int, height: int) -> bytes:
    """A PNG of coloured squares, which no two seeds share."""
    colours = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST).save(data, "PNG")
    return data.getvalue()


WIDE, OTHER, TALL = _picture(1, 96, 64), _picture(2, 96, 64), _picture(3, 64, 112)
"""`OTHER` has the size of `WIDE`, so that a prompt with it has the same tokens."""
ASKED = "What do you see, and where?"

TEXT = tuple(Question(f"text {n}", (_user(text),)) for n, text in enumerate(TEXTS, start=1))
TEXT_LATER = Question("a later turn", (_user(LONG), _said("Four."), _user("And odd?")))
PICTURE = Question("one picture", (_user(ASKED, 0),), (WIDE,))
CHANGED = Question("another picture under the same text", (_user(ASKED, 0),), (OTHER,))
PICTURE_LATER = Question(
    "a picture of an earlier turn",
    (_user(ASKED, 0), _said("Some squares."), _user("And in the middle?")),
    (WIDE,),
)
PICTURES = Question("two pictures", (_user(ASKED, 0, 1),), (WIDE, TALL))
PICTURES_TURNED = Question("the same pictures turned round", (_user(ASKED, 0, 1),), (TALL, WIDE))

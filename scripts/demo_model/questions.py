"""Conversations about scenes: what a client sends, and the one right answer.

A message is an OpenAI chat message whose image parts read `{"type": "image"}`; the scene that
such a part stands for is the one at the same position in `Example.scenes`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scripts.demo_model import answers, small_talk, wordings
from scripts.demo_model.scenes import KINDS, QUARTERS, Scene, random_scene
from scripts.demo_model.shades import BACKGROUNDS, COLORS

Message = dict[str, Any]
Exchange = tuple[str, str]  # question and answer
Draw = Callable[[random.Random], Scene]

IMAGE_PART: Message = {"type": "image"}
MOST_TURNS = 6


@dataclass(frozen=True)
class Example:
    """Messages up to the last question, the scenes they show, and the answer; `request` has the
    request's other parameters."""

    kind: str
    messages: list[Message]
    scenes: list[Scene]
    answer: str
    request: dict[str, Any] = field(default_factory=dict)


def ask_caption(scene: Scene, rng: random.Random) -> Exchange:
    """What the image shows."""
    return wordings.question("caption", rng), answers.caption(scene)


def ask_count(scene: Scene, rng: random.Random) -> Exchange:
    """How many shapes there are, or how many of a color or kind."""
    color, kind = "", ""
    if rng.random() < 0.5:
        color, kind = random_features(scene, rng, true_share=0.7)
        color, kind = (color, "") if rng.random() < 0.3 else ("", kind)
    noun = answers.noun_of(color, kind)
    asked = noun
    if not kind and rng.random() < 0.3:
        asked = noun.replace("shape", rng.choice(("object", "figure")))
    number = len(answers.matching(scene, color, kind))
    return wordings.question("count", rng, nouns=asked + "s"), answers.count(number, noun)


def ask_color(scene: Scene, rng: random.Random) -> Exchange:
    """The color of a shape named by its place or kind, or of the background."""
    choice = rng.random()
    if choice < 0.15:
        return wordings.question("background", rng), f"It is {scene.background}."
    if choice < 0.55:
        _, kind = random_features(scene, rng, true_share=0.9)
        return wordings.question("color_of", rng, kind=kind), answers.color_of(scene, kind)
    quarter = random_quarter(scene, rng)
    place, thing = wordings.random_place(quarter, rng), rng.choice(wordings.MANNERS["things"])
    question = wordings.question("color_at", rng, place=place, thing=thing)
    return question, answers.color_at(scene, quarter)


def ask_shape(scene: Scene, rng: random.Random) -> Exchange:
    """The kind of a shape named by its place or color, or all about the one at a place."""
    choice = rng.random()
    if choice < 0.3:
        color, _ = random_features(scene, rng, true_share=0.9)
        return wordings.question("kind_of", rng, color=color), answers.kind_of(scene, color)
    quarter = random_quarter(scene, rng)
    place = wordings.random_place(quarter, rng)
    if choice < 0.45:
        return wordings.question("shape_at", rng, place=place), answers.shape_at(scene, quarter)
    thing = rng.choice(wordings.MANNERS["things"])
    question = wordings.question("kind_at", rng, place=place, thing=thing)
    return question, answers.kind_at(scene, quarter)


def ask_place(scene: Scene, rng: random.Random) -> Exchange:
    """Where a shape is that is named by its kind, its color or both."""
    color, kind = random_noun(scene, rng, true_share=0.9)
    noun = answers.noun_of(color, kind)
    return wordings.question("place", rng, noun=noun), answers.place_of(scene, color, kind)


def ask_yes_no(scene: Scene, rng: random.Random) -> Exchange:
    """Whether there is such a shape, or such a shape at a place."""
    color, kind = random_noun(scene, rng, true_share=0.5)
    noun = answers.noun_of(color, kind)
    words = {"a_noun": answers.with_article(noun), "nouns": noun + "s"}
    found = answers.matching(scene, color, kind)
    if rng.random() < 0.8:
        return wordings.question("existence", rng, **words), answers.yes_no(bool(found))
    quarter = rng.choice(QUARTERS)
    if found and rng.random() < 0.6:
        quarter = rng.choice(found).quarter
    place = wordings.random_place(quarter, rng)
    holds = any(shape.quarter == quarter for shape in found)
    question = wordings.question("existence_at", rng, place=place, **words)
    return question, answers.yes_no(holds)


ONE_IMAGE_ASKS: dict[str, Callable[[Scene, random.Random], Exchange]] = {
    "captions": ask_caption,
    "counts": ask_count,
    "colors": ask_color,
    "shapes": ask_shape,
    "places": ask_place,
    "yes/no": ask_yes_no,
}


def random_features(scene: Scene, rng: random.Random, true_share: float) -> tuple[str, str]:
    """Color and kind of a shape of the scene, or in the other cases any color and kind."""
    if rng.random() < true_share:
        shape = rng.choice(scene.shapes)
        return shape.color, shape.kind
    return rng.choice(COLORS), rng.choice(KINDS)


def random_noun(scene: Scene, rng: random.Random, true_share: float) -> tuple[str, str]:
    """Like `random_features`, with the color or the kind left open (empty) at times."""
    color, kind = random_features(scene, rng, true_share)
    if rng.random() < 0.2 and true_share < 0.9:
        color = rng.choice(COLORS)
    choice = rng.random()
    if choice < 0.4:
        return "", kind
    return (color, "") if choice < 0.55 else (color, kind)


def random_quarter(scene: Scene, rng: random.Random) -> str:
    """Mostly a quarter with a shape in it."""
    if rng.random() < 0.9:
        return rng.choice(scene.shapes).quarter
    return rng.choice(QUARTERS)


def ordinal_image(ordinal: str, rng: random.Random) -> str:
    """`the second image`, `image 2`."""
    if rng.random() < 0.2:
        return f"image {answers.ORDINALS.index(ordinal) + 1}"
    return f"the {ordinal} image"


def ask_comparison(scenes: list[Scene], rng: random.Random) -> Exchange:
    """Which of two images has a certain shape or background."""
    if rng.random() < 0.1:
        background = rng.choice([scenes[0].background, scenes[1].background, *BACKGROUNDS])
        words = f"a {background} background"
        holds = [scene.background == background for scene in scenes]
    else:
        color, kind = random_noun(rng.choice(scenes), rng, true_share=0.85)
        words = answers.with_article(answers.noun_of(color, kind))
        holds = [bool(answers.matching(scene, color, kind)) for scene in scenes]
    return wordings.question("comparison", rng, a_noun=words), answers.which_image(holds)


def ask_ordinal(scenes: list[Scene], rng: random.Random) -> Exchange:
    """A question about one of two images, named by its number."""
    ordinal = rng.choice(answers.ORDINALS)
    scene = scenes[answers.ORDINALS.index(ordinal)]
    named = ordinal_image(ordinal, rng)
    if rng.random() < 0.6:
        question = wordings.question("ordinal_caption", rng, ordinal_image=named)
        return question, answers.caption(scene)
    ask = rng.choice((ask_count, ask_color, ask_shape, ask_place, ask_yes_no))
    question, answer = ask(scene, random.Random(rng.getrandbits(32)))
    question = question.strip().rstrip("?.! ")
    if any(
        word in question.lower() for word in (*wordings.MANNERS["image_words"], "please", "thank")
    ):
        return ask_ordinal(scenes, rng)
    if rng.random() < 0.3:
        return f"In {named}, {question[0].lower()}{question[1:]}?", answer
    return f"{question} in {named}?", answer


def ask_two_images(scenes: list[Scene], rng: random.Random) -> Exchange:
    """A question about two images at once."""
    choice = rng.random()
    if choice < 0.5:
        return ask_comparison(scenes, rng)
    if choice < 0.92:
        return ask_ordinal(scenes, rng)
    return wordings.question("both_captions", rng), answers.captions_of_both(scenes)


def ask_one_image(scene: Scene, rng: random.Random, kind: str = "") -> Exchange:
    """A question about one image, of the given kind or of any."""
    return ONE_IMAGE_ASKS[kind or rng.choice(tuple(ONE_IMAGE_ASKS))](scene, rng)


def user_message(question: str, images: int, rng: random.Random) -> Message:
    """The question as a string or as parts, with images before, after or between its texts."""
    text = {"type": "text", "text": question}
    if images == 0:
        return {"role": "user", "content": question if rng.random() < 0.8 else [text]}
    if not question:
        return {"role": "user", "content": [IMAGE_PART] * images}
    lead_in = "Look at this image."
    if rng.random() < 0.7:
        lead_in = wordings.vary(rng.choice(wordings.MANNERS["lead_ins"]), rng)
    parts: list[Message] = [IMAGE_PART] * images
    choice = rng.random()
    if choice < 0.4:
        parts = [*parts, text]
    elif choice < 0.75:
        parts = [text, *parts]
    elif choice < 0.9 or images == 1:
        first = {"type": "text", "text": lead_in}
        parts = [first, *parts, text] if choice < 0.95 else [text, *parts, first]
    else:
        parts = interleaved(text, rng)
    return {"role": "user", "content": parts}


def interleaved(text: Message, rng: random.Random) -> list[Message]:
    """Two images with text between them."""
    if rng.random() < 0.4:
        return [IMAGE_PART, text, IMAGE_PART]
    pair = rng.choice(wordings.MANNERS["image_labels"])
    labels = [{"type": "text", "text": label} for label in pair]
    parts = [labels[0], IMAGE_PART, labels[1], IMAGE_PART]
    return [*parts, text] if rng.random() < 0.7 else [text, *parts]


def system_messages(rng: random.Random) -> list[Message]:
    """A system or developer message, or none."""
    if rng.random() < 0.65:
        return []
    role = "system" if rng.random() < 0.8 else "developer"
    return [{"role": role, "content": rng.choice(wordings.MANNERS["system_prompts"])}]


def single(kind: str, exchange: Exchange, scenes: list[Scene], rng: random.Random) -> Example:
    """One question and its answer."""
    question, answer = exchange
    messages = [*system_messages(rng), user_message(question, len(scenes), rng)]
    return Example(kind, messages, scenes, answer)


def later_exchange(scenes: list[Scene], rng: random.Random) -> Exchange:
    """A question for a turn that adds no image, after the given images."""
    choice = rng.random()
    if choice < 0.08:
        return small_talk.text_only(rng)
    if len(scenes) == 2 and choice < 0.7:
        return ask_two_images(scenes, rng)
    return ask_one_image(scenes[-1], rng)


def several_turns(rng: random.Random, draw: Draw = random_scene) -> Example:
    """Two to MOST_TURNS turns about one image or two, which come in any turn but the last."""
    turns = rng.randint(2, MOST_TURNS)
    scenes = [draw(rng)]
    messages = system_messages(rng)
    together = rng.random() < 0.2
    second_turn = rng.randint(1, turns - 1) if rng.random() < 0.35 and not together else -1
    if together:
        scenes.append(draw(rng))
    if rng.random() < 0.12:
        question, answer = small_talk.text_only(rng)
        messages += [user_message(question, 0, rng), {"role": "assistant", "content": answer}]
    for turn in range(turns):
        images = 0
        if turn == 0:
            images = len(scenes)
            asked = ask_two_images(scenes, rng) if together else ask_one_image(scenes[0], rng)
        elif turn == second_turn:
            images = 1
            scenes.append(draw(rng))
            two = rng.random() < 0.5
            asked = ask_two_images(scenes, rng) if two else ask_one_image(scenes[1], rng)
        elif together:
            asked = ask_two_images(scenes, rng)
        else:
            asked = later_exchange(scenes, rng)
        question, answer = asked
        messages.append(user_message(question, images, rng))
        if turn < turns - 1:
            messages.append({"role": "assistant", "content": answer})
    return Example("several turns", messages, scenes, answer)


def two_images(rng: random.Random, draw: Draw = random_scene) -> Example:
    """One question about two images in one message."""
    scenes = [draw(rng), draw(rng)]
    return single("two images", ask_two_images(scenes, rng), scenes, rng)


def no_image(rng: random.Random) -> Example:
    """A question about an image that was not sent."""
    question, _ = ask_one_image(random_scene(rng), rng)
    return single("no image", (question, answers.NO_IMAGE), [], rng)


def text_only(rng: random.Random) -> Example:
    """A question that needs no image, after some others at times."""
    messages = system_messages(rng)
    while rng.random() < 0.25:
        question, answer = small_talk.text_only(rng)
        messages += [user_message(question, 0, rng), {"role": "assistant", "content": answer}]
    question, answer = small_talk.text_only(rng)
    return Example("text only", [*messages, user_message(question, 0, rng)], [], answer)


QUESTION_KINDS: tuple[str, ...] = (
    *ONE_IMAGE_ASKS,
    "two images",
    "several turns",
    "text only",
    "no image",
)


def random_question(kind: str, rng: random.Random, draw: Draw = random_scene) -> Example:
    """A conversation of one of QUESTION_KINDS; `draw` makes the scenes it is about."""
    if kind in ONE_IMAGE_ASKS:
        scene = draw(rng)
        question, answer = ask_one_image(scene, rng, kind)
        if kind == "captions" and rng.random() < 0.03:
            question = ""  # an image alone asks for its caption
        return single(kind, (question, answer), [scene], rng)
    if kind == "two images":
        return two_images(rng, draw)
    if kind == "several turns":
        return several_turns(rng, draw)
    if kind == "text only":
        return text_only(rng)
    if kind == "no image":
        return no_image(rng)
    raise ValueError(f"no such kind of question: {kind}; there are {', '.join(QUESTION_KINDS)}")

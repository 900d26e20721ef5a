"""What a question is about, and all that can rightly be said about it, by meaning.

The meanings are the keys of `fields` in `structured.toml`; those of them that only a whole image
has are named by `scene_facts`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from scripts.demo_model import answers, small_talk, wordings
from scripts.demo_model.phrases import table
from scripts.demo_model.questions import random_features, random_noun
from scripts.demo_model.scenes import KINDS, QUARTERS, Scene, Shape

Fact = str | int | bool
PHRASES = table("structured")
NOTHING = "none"


@dataclass(frozen=True)
class Topic:
    """A question, and what a client may want to have for it."""

    question: str
    sentence: str  # the plain answer
    asked: tuple[str, ...]  # meanings; an answer in JSON has one of them
    facts: dict[str, Fact]
    tools: tuple[str, ...]  # what a tool for the question is about (`of`), the likeliest first


def scene_facts(scene: Scene) -> dict[str, Fact]:
    """What there is to say about any image, its quarters (`top_left`), `circles`, `has_circle`."""
    facts: dict[str, Fact] = {"count": len(scene.shapes), "background": scene.background}
    for quarter in QUARTERS:
        shape = answers.at(scene, quarter)
        facts[quarter.replace(" ", "_")] = shape.name if shape else NOTHING
    for kind in KINDS:
        number = len(answers.matching(scene, kind=kind))
        facts[f"{kind}s"], facts[f"has_{kind}"] = number, number > 0
    return facts


def shape_facts(shape: Shape) -> dict[str, Fact]:
    """What there is to say about one shape."""
    return {
        "color": shape.color,
        "kind": shape.kind,
        "quarter": shape.quarter,
        "name": shape.name,
    }


def about_shape(scene: Scene, rng: random.Random) -> Topic:
    """A question for one shape, named by whatever it alone has."""
    shape = rng.choice(scene.shapes)
    words = {
        "place": wordings.random_place(shape.quarter, rng),
        "thing": rng.choice(wordings.MANNERS["things"]),
    }
    quarter = shape.quarter
    ways: list[tuple[str, str, str]] = [
        ("color_at", "color", answers.color_at(scene, quarter)),
        ("kind_at", "kind", answers.kind_at(scene, quarter)),
        ("shape_at", "name", answers.shape_at(scene, quarter)),
    ]
    if len(answers.matching(scene, kind=shape.kind)) == 1:
        ways += [("color_of", "color", f"It is {shape.color}.")] * 2
    if len(answers.matching(scene, shape.color)) == 1:
        ways += [("kind_of", "kind", answers.kind_of(scene, shape.color))]
    nouns = [
        answers.noun_of(color, kind)
        for color, kind in (("", shape.kind), (shape.color, ""), (shape.color, shape.kind))
        if len(answers.matching(scene, color, kind)) == 1
    ]
    if nouns:
        ways += [("place", "quarter", f"It is at the {quarter}.")] * 2
        words["noun"] = rng.choice(nouns)
    about, asked, sentence = rng.choice(ways)
    question = wordings.question(about, rng, color=shape.color, kind=shape.kind, **words)
    parts = ("color", "kind") if asked == "name" else (asked,)
    tools = ("shape", *parts) if asked == "name" else (asked, "shape")
    facts = shape_facts(shape) | {key: scene_facts(scene)[key] for key in ("count", "background")}
    return Topic(question, sentence, parts, facts, tools)


def about_scene(scene: Scene, rng: random.Random) -> Topic:
    """A question for the whole image; where one shape is asked for, it is the first."""
    caption = answers.caption(scene)
    facts = scene_facts(scene) | shape_facts(scene.shapes[0])
    facts["caption"] = caption
    tools = ("caption", "shape", "color", "kind", "quarter")
    return Topic(wordings.question("caption", rng), caption, tuple(facts), facts, tools)


def about_count(scene: Scene, rng: random.Random) -> Topic:
    """How many shapes there are, or how many of a color or kind."""
    color, kind = random_features(scene, rng, true_share=0.7)
    color, kind = rng.choice(((color, ""), ("", kind), ("", kind), ("", ""), ("", "")))
    number, noun = len(answers.matching(scene, color, kind)), answers.noun_of(color, kind)
    question = wordings.question("count", rng, nouns=noun + "s")
    facts: dict[str, Fact] = {"count": number, "background": scene.background}
    return Topic(question, answers.count(number, noun), ("count",), facts, ("count",))


def about_background(scene: Scene, rng: random.Random) -> Topic:
    """The color of the background."""
    facts: dict[str, Fact] = {"background": scene.background, "count": len(scene.shapes)}
    question, sentence = wordings.question("background", rng), f"It is {scene.background}."
    return Topic(question, sentence, ("background",), facts, ("background",))


def about_existence(scene: Scene, rng: random.Random) -> Topic:
    """Whether there is such a shape."""
    color, kind = random_noun(scene, rng, true_share=0.5)
    noun, found = answers.noun_of(color, kind), bool(answers.matching(scene, color, kind))
    words = {"a_noun": answers.with_article(noun), "nouns": noun + "s"}
    question = wordings.question("existence", rng, **words)
    facts: dict[str, Fact] = {"verdict": found, "background": scene.background}
    return Topic(question, answers.yes_no(found), ("verdict",), facts, ("verdict",))


def about_capital(rng: random.Random) -> Topic:
    """The capital of a country."""
    country = rng.choice(tuple(small_talk.CAPITALS))
    question = rng.choice(small_talk.PHRASES["capital"]).format(country=country)
    question = wordings.vary_ending(question[0].upper() + question[1:], rng)
    facts: dict[str, Fact] = {"country": country, "capital": small_talk.CAPITALS[country]}
    sentence, both = small_talk.capital_of(country), ("capital", "country")
    return Topic(question, sentence, both, facts, both)


def about_weather(rng: random.Random) -> Topic:
    """What the model does not know, but somebody's tool does."""
    city = rng.choice(tuple(small_talk.CAPITALS.values()))
    question = wordings.vary_ending(rng.choice(PHRASES["weather"]).format(city=city), rng)
    return Topic(question, small_talk.FALLBACK, ("city",), {"city": city}, ("weather",))


SceneTopic = Callable[[Scene, random.Random], Topic]
SCENE_TOPICS: dict[SceneTopic, int] = {
    about_shape: 8,
    about_scene: 6,
    about_count: 2,
    about_background: 1,
    about_existence: 2,
}


def scene_topic(scene: Scene, rng: random.Random) -> Topic:
    """Any question about an image."""
    topics = tuple(SCENE_TOPICS)
    return rng.choices(topics, weights=tuple(SCENE_TOPICS.values()))[0](scene, rng)

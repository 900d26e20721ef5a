"""The demo model's questions have the answers that the contract gives."""

import hashlib
import json
import random

import pytest

from scripts.demo_model import answers, small_talk
from scripts.demo_model.questions import QUESTION_KINDS, Example, random_question
from scripts.demo_model.scenes import Scene, Shape, example_scene

RED, BLUE, ORANGE = (255, 0, 0), (0, 0, 255), (255, 165, 0)


def scene_of(*shapes: Shape) -> Scene:
    return Scene(100, 100, "light gray", (211, 211, 211), shapes)


def conversations(kind: str, count: int = 200) -> list[Example]:
    rng = random.Random(kind)
    return [random_question(kind, rng) for _ in range(count)]


def image_parts(example: Example) -> int:
    contents = [message["content"] for message in example.messages]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    return sum(part["type"] == "image" for part in parts)


def test_caption_of_the_example() -> None:
    assert answers.caption(example_scene()) == (
        "The image shows a red circle at the top left and a blue square at the bottom right "
        "on a white background."
    )


def test_caption_of_three_shapes() -> None:
    scene = scene_of(
        Shape("star", "orange", "top left", ORANGE, 0.3),
        Shape("circle", "red", "top right", RED, 0.3),
        Shape("circle", "blue", "bottom right", BLUE, 0.3),
    )
    assert answers.caption(scene) == (
        "The image shows an orange star at the top left, a red circle at the top right and "
        "a blue circle at the bottom right on a light gray background."
    )


def test_answers_about_one_scene() -> None:
    scene = scene_of(
        Shape("star", "orange", "top left", ORANGE, 0.3),
        Shape("star", "red", "top right", RED, 0.3),
        Shape("circle", "blue", "bottom right", BLUE, 0.3),
    )
    assert answers.count(len(scene.shapes)) == "There are three shapes."
    assert answers.count(1) == "There is one shape."
    assert answers.color_of(scene, "circle") == "It is blue."
    assert answers.color_of(scene, "star") == "There are two stars."
    assert answers.color_of(scene, "square") == "There is no square."
    assert answers.color_at(scene, "top left") == "It is orange."
    assert answers.color_at(scene, "bottom left") == "There is no shape at the bottom left."
    assert answers.kind_at(scene, "top left") == "It is a star."
    assert answers.shape_at(scene, "top left") == "It is an orange star."
    assert answers.place_of(scene, "red", "star") == "It is at the top right."


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([True, False], "The first image."),
        ([False, True], "The second image."),
        ([True, True], "Both images."),
        ([False, False], "Neither image."),
    ],
)
def test_comparison(holds: list[bool], expected: str) -> None:
    assert answers.which_image(holds) == expected


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_conversations_are_legal(kind: str) -> None:
    for example in conversations(kind):
        assert example.kind == kind
        assert example.answer
        assert image_parts(example) == len(example.scenes)
        roles = [message["role"] for message in example.messages]
        if roles[0] in ("system", "developer"):
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_kinds_show_as_many_images_as_they_need() -> None:
    assert {image_parts(one) for one in conversations("captions")} == {1}
    assert {image_parts(one) for one in conversations("two images")} == {2}
    assert {image_parts(one) for one in conversations("several turns")} == {1, 2}
    assert {image_parts(one) for one in conversations("text only")} == {0}
    assert {one.answer for one in conversations("no image")} == {"Please send an image."}


def test_all_four_comparisons_occur() -> None:
    found = {one.answer for one in conversations("two images", 400)}
    assert {"The first image.", "The second image.", "Both images.", "Neither image."} <= found


def test_captions_name_every_shape() -> None:
    for example in conversations("captions"):
        assert all(shape.name in example.answer for shape in example.scenes[0].shapes)


def test_the_same_seed_asks_the_same() -> None:
    assert conversations("several turns", 20) == conversations("several turns", 20)


def test_a_seed_asks_what_it_has_always_asked() -> None:
    """The checkpoint was trained on these, and its figures are of these: to change a phrase, or how
    one is drawn, is to change both."""
    digest = hashlib.sha256()
    for kind in QUESTION_KINDS:
        for one in conversations(kind, 500):
            digest.update(json.dumps([one.messages, one.answer]).encode())
    assert digest.hexdigest() == "5c2002a031dcb1ea2e63f7205372bf5c27c4e69afb1e084661c6a994c156d2e8"


def test_capitals() -> None:
    assert len(small_talk.CAPITALS) >= 100
    assert small_talk.capital_of("France") == "The capital of France is Paris."
    assert small_talk.capital_of("the US") == (
        "The capital of the United States is Washington, D.C."
    )
    assert set(small_talk.OTHER_NAMES.values()) <= set(small_talk.CAPITALS)


def test_counting_counts() -> None:
    question, answer = small_talk.counting(random.Random(6))
    numbers = [int(number) for number in answer.rstrip(".").split(", ")]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert str(numbers[0]) in question and str(numbers[-1]) in question


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no such kind"):
        random_question("poems", random.Random(0))

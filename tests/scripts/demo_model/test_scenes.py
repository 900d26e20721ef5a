"""The demo model's scenes are what the domain says they are."""

import io
import random

import pytest
from PIL import Image

from scripts.demo_model import scenes, shades
from scripts.demo_model.scenes import FORMATS, QUARTERS, Scene, random_scene


def scenes_of(seed: int, count: int = 50) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(rng) for _ in range(count)]


def center_of(scene: Scene, index: int) -> tuple[int, int]:
    shape = scene.shapes[index]
    column, row = QUARTERS.index(shape.quarter) % 2, QUARTERS.index(shape.quarter) // 2
    quarter = (scene.width / 2, scene.height / 2)
    radius = shape.radius * min(quarter)
    x = column * quarter[0] + radius + shape.place[0] * (quarter[0] - 2 * radius)
    y = row * quarter[1] + radius + shape.place[1] * (quarter[1] - 2 * radius)
    return int(x), int(y)


def test_scenes_keep_to_the_domain() -> None:
    for scene in scenes_of(1, 300):
        assert 1 <= len(scene.shapes) <= 4
        quarters = [QUARTERS.index(shape.quarter) for shape in scene.shapes]
        assert quarters == sorted(set(quarters))
        assert all(shape.color != scene.background for shape in scene.shapes)
        assert all(0.2 <= shape.radius <= 0.4 for shape in scene.shapes)
        assert 64 <= min(scene.width, scene.height) <= max(scene.width, scene.height) <= 1024


def test_every_kind_color_background_and_quarter_occurs() -> None:
    drawn = scenes_of(2, 300)
    shapes = [shape for scene in drawn for shape in scene.shapes]
    assert {shape.kind for shape in shapes} == set(scenes.KINDS)
    assert {shape.color for shape in shapes} == set(shades.COLORS)
    assert {shape.quarter for shape in shapes} == set(QUARTERS)
    assert {scene.background for scene in drawn} == set(shades.BACKGROUNDS)


def test_shapes_are_drawn_in_their_shade_and_place() -> None:
    rng = random.Random(3)
    for _ in range(20):
        drawn = random_scene(rng, (320, 240))
        plain = Scene(320, 240, drawn.background, drawn.background_shade, drawn.shapes)
        image = plain.draw()
        assert image.size == (320, 240)
        for index, shape in enumerate(plain.shapes):
            assert image.getpixel(center_of(plain, index)) == shape.shade


def test_shapes_stay_in_their_quarter() -> None:
    for drawn in scenes_of(4):
        for shape in drawn.shapes:
            alone = Scene(drawn.width, drawn.height, "white", (1, 2, 3), (shape,), smooth=False)
            image = alone.draw()
            column, row = QUARTERS.index(shape.quarter) % 2, QUARTERS.index(shape.quarter) // 2
            # A pixel more, as drawing rounds outwards.
            left, top = column * drawn.width // 2 - 1, row * drawn.height // 2 - 1
            box = (left, top, left + drawn.width // 2 + 3, top + drawn.height // 2 + 3)
            image.paste((1, 2, 3), box)
            assert image.getcolors() == [(drawn.width * drawn.height, (1, 2, 3))]


@pytest.mark.parametrize("image_format", FORMATS)
def test_files_are_of_the_format_asked_for(image_format: str) -> None:
    scene = scenes.example_scene()
    image = Image.open(io.BytesIO(scene.encode(image_format)))
    assert image.format == image_format
    assert image.size == (scene.width, scene.height)


def test_the_same_seed_draws_the_same_scene() -> None:
    first, second = scenes_of(5, 10), scenes_of(5, 10)
    assert first == second
    assert first[0].encode("PNG") == second[0].encode("PNG")


def test_light_and_dark_gray_backgrounds_do_not_meet() -> None:
    def lightness(name: str) -> list[float]:
        return [sum(shades.parse_hex(text)) / 3 for text in shades.BACKGROUND_SHADES[name]]

    assert max(lightness("black")) < min(lightness("dark gray"))
    assert max(lightness("dark gray")) < min(lightness("light gray"))
    assert max(lightness("light gray")) < min(lightness("white"))

"""Scenes: one to four shapes, each in its own quarter of a plain background.

Lengths are in pixels unless a name says otherwise; places within a quarter and radii are
fractions, so that one scene can be drawn at any size.
"""

import io
import math
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scripts.demo_model.shades import (
    BACKGROUND_SHADES,
    BACKGROUNDS,
    COLORS,
    SHAPE_SHADES,
    Rgb,
    random_shade,
)

KINDS: tuple[str, ...] = ("circle", "square", "triangle", "star")
QUARTERS: tuple[str, ...] = ("top left", "top right", "bottom left", "bottom right")
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP")

SMALLEST_SIDE, LARGEST_SIDE = 64, 1024
SMALLEST_RADIUS, LARGEST_RADIUS = 0.2, 0.4  # of the quarter's shorter side
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Shape:
    """One shape: what it is and exactly how it is drawn."""

    kind: str
    color: str
    quarter: str
    shade: Rgb
    radius: float  # of the quarter's shorter side
    place: tuple[float, float] = (0.5, 0.5)  # 0..1 across the room left in the quarter
    turn: float = 0.0  # degrees, clockwise
    inner: float = 0.45  # a star's inner radius, of its outer one
    fills_box: bool = False  # corners reach the box around the circle of `radius`, not the circle

    @property
    def name(self) -> str:
        """Color and kind, e.g. `red circle`."""
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """An image to draw: its size, background, shapes (in the order of QUARTERS) and flaws."""

    width: int
    height: int
    background: str
    background_shade: Rgb
    shapes: tuple[Shape, ...]
    smooth: bool = True
    noise: float = 0.0  # standard deviation, of 255
    blur: float = 0.0  # radius
    noise_seed: int = field(default=0, repr=False)

    def draw(self) -> Image.Image:
        """The picture, mode RGB, `width` x `height`."""
        image = Image.new("RGB", (self.width, self.height), self.background_shade)
        for shape in self.shapes:
            draw_shape(image, shape, self.smooth)
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        if self.noise:
            image = add_noise(image, self.noise, self.noise_seed)
        return image

    def encode(self, image_format: str = "PNG", quality: int = 85) -> bytes:
        """The picture as a PNG, JPEG or WEBP file; `quality` matters to the latter two."""
        return encode_image(self.draw(), image_format, quality)


def encode_image(image: Image.Image, image_format: str, quality: int = 85) -> bytes:
    """`image` as the bytes of a file; PNG is compressed lightly, for speed."""
    options: dict[str, int] = {"quality": quality}
    if image_format == "PNG":
        options = {"compress_level": 1}
    elif image_format == "WEBP":
        options["method"] = 0
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def corners(shape: Shape, radius: float) -> list[tuple[float, float]]:
    """The shape's corners around (0, 0), within `radius`; a circle has none."""
    if shape.kind == "square":
        reach_of_box = radius * math.sqrt(2) if shape.fills_box else radius
        return turned([(45 + 90 * i, reach_of_box) for i in range(4)], shape.turn)
    if shape.kind == "triangle" and shape.fills_box:
        below = radius * math.sqrt(2)
        return turned([(0, radius), (135, below), (225, below)], shape.turn)
    if shape.kind == "triangle":
        return turned([(120 * i, radius) for i in range(3)], shape.turn)
    if shape.kind == "star":
        reach = (radius, radius * shape.inner)
        return turned([(36 * i, reach[i % 2]) for i in range(10)], shape.turn)
    return []


def turned(polar: list[tuple[float, float]], turn: float) -> list[tuple[float, float]]:
    """Points given as (degrees clockwise from the top, distance), as x and y, y downwards."""
    angles = [(math.radians(angle + turn), distance) for angle, distance in polar]
    return [(math.sin(a) * d, -math.cos(a) * d) for a, d in angles]


def draw_shape(image: Image.Image, shape: Shape, smooth: bool) -> None:
    """Draw one shape into its quarter of `image`."""
    quarter_width, quarter_height = image.width / 2, image.height / 2
    radius = shape.radius * min(quarter_width, quarter_height)
    column, row = QUARTERS.index(shape.quarter) % 2, QUARTERS.index(shape.quarter) // 2
    x = column * quarter_width + radius + shape.place[0] * (quarter_width - 2 * radius)
    y = row * quarter_height + radius + shape.place[1] * (quarter_height - 2 * radius)

    scale = SUPERSAMPLING if smooth else 1
    left, top = math.floor(x - radius) - 1, math.floor(y - radius) - 1
    side = math.ceil(2 * radius) + 3
    mask = Image.new("L", (side * scale, side * scale), 0)
    pen = ImageDraw.Draw(mask)
    center_x, center_y, reach = (x - left) * scale, (y - top) * scale, radius * scale
    if shape.kind == "circle":
        box = (center_x - reach, center_y - reach, center_x + reach, center_y + reach)
        pen.ellipse(box, fill=255)
    else:
        points = [(center_x + dx, center_y + dy) for dx, dy in corners(shape, reach)]
        pen.polygon(points, fill=255)
    if smooth:
        mask = mask.reduce(scale)
    image.paste(shape.shade, (left, top), mask)


def add_noise(image: Image.Image, deviation: float, seed: int) -> Image.Image:
    """The image with Gaussian noise of `deviation` (of 255) on every channel."""
    generator = np.random.default_rng(seed)
    pixels = np.asarray(image, dtype=np.float32)
    noise = generator.standard_normal(pixels.shape, dtype=np.float32) * deviation
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def random_side(rng: random.Random) -> int:
    """A side's length: evenly spread, or evenly spread over magnitudes."""
    if rng.random() < 0.3:
        return rng.randint(SMALLEST_SIDE, LARGEST_SIDE)
    return round(2 ** rng.uniform(math.log2(SMALLEST_SIDE), math.log2(LARGEST_SIDE)))


def random_size(rng: random.Random) -> tuple[int, int]:
    """Width and height: two independent sides, a common aspect ratio, or a square."""
    side = random_side(rng)
    choice = rng.random()
    if choice < 0.45:
        return side, random_side(rng)
    if choice < 0.6:
        return side, side
    ratio = rng.choice((4 / 3, 3 / 2, 16 / 9, 5 / 4, 2.0))
    other = max(SMALLEST_SIDE, round(side / ratio))
    return (side, other) if rng.random() < 0.5 else (other, side)


def random_turn(kind: str, rng: random.Random) -> float:
    """Degrees: stars stand on any side, triangles mostly point up, squares lie straight."""
    choice = rng.random()
    if kind == "star":
        return 0.0 if choice < 0.5 else rng.uniform(0, 72)
    if kind == "triangle" and choice > 0.85:
        return 180.0 if choice > 0.95 else rng.uniform(-20, 20)
    if kind == "square" and choice > 0.9:
        return rng.uniform(-10, 10)
    return 0.0


def random_shape(quarter: str, background: str, rng: random.Random) -> Shape:
    """Any shape for `quarter` whose color differs from the background's."""
    kind = rng.choice(KINDS)
    color = rng.choice([color for color in COLORS if color != background])
    centered = rng.random() < 0.3
    turn = random_turn(kind, rng)
    return Shape(
        kind=kind,
        color=color,
        quarter=quarter,
        shade=random_shade(SHAPE_SHADES[color], rng),
        radius=rng.uniform(SMALLEST_RADIUS, LARGEST_RADIUS),
        place=(0.5, 0.5) if centered else (rng.random(), rng.random()),
        turn=turn,
        inner=rng.choice((0.382, 0.4, 0.45, 0.5, rng.uniform(0.35, 0.52))),
        fills_box=turn in (0.0, 180.0) and rng.random() < 0.5,
    )


def random_scene(rng: random.Random, size: tuple[int, int] | None = None) -> Scene:
    """Any scene of the domain, of the given (width, height) or of any size."""
    width, height = size or random_size(rng)
    background = rng.choice(BACKGROUNDS)
    quarters = rng.sample(QUARTERS, rng.randint(1, len(QUARTERS)))
    shapes = [random_shape(quarter, background, rng) for quarter in QUARTERS if quarter in quarters]
    return Scene(
        width=width,
        height=height,
        background=background,
        background_shade=random_shade(BACKGROUND_SHADES[background], rng, spread=2),
        shapes=tuple(shapes),
        smooth=rng.random() < 0.6,
        noise=rng.uniform(1, 8) if rng.random() < 0.3 else 0.0,
        blur=rng.uniform(0.3, 0.8) if rng.random() < 0.1 else 0.0,
        noise_seed=rng.getrandbits(32),
    )


def random_file(scene: Scene, rng: random.Random) -> tuple[bytes, str]:
    """The scene as a file of any format and quality, and the format."""
    image_format = rng.choice(FORMATS)
    return scene.encode(image_format, rng.randint(60, 95)), image_format


def example_scene() -> Scene:
    """The picture of the README: a red circle and a blue square on white, 256 x 192."""
    circle = Shape("circle", "red", "top left", (220, 20, 60), 0.36)
    square = Shape("square", "blue", "bottom right", (30, 144, 255), 0.4)
    return Scene(256, 192, "white", (255, 255, 255), (circle, square))

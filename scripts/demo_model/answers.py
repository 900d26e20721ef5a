"""The one right answer to each kind of question about a scene."""

from scripts.demo_model.scenes import Scene, Shape

NUMBERS: tuple[str, ...] = ("no", "one", "two", "three", "four")
ORDINALS: tuple[str, ...] = ("first", "second")
NO_IMAGE = "Please send an image."


def with_article(name: str) -> str:
    """`a red circle`, `an orange star`."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def joined(parts: list[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def caption(scene: Scene, subject: str = "The image") -> str:
    """Every shape in the order of QUARTERS, and the background."""
    shapes = [f"{with_article(shape.name)} at the {shape.quarter}" for shape in scene.shapes]
    return f"{subject} shows {joined(shapes)} on a {scene.background} background."


def yes_no(holds: bool) -> str:
    """`Yes.` or `No.`"""
    return "Yes." if holds else "No."


def count(number: int, noun: str = "shape") -> str:
    """`There are two shapes.`, `There is one red shape.`, `There are no stars.`"""
    if number == 1:
        return f"There is one {noun}."
    return f"There are {NUMBERS[number]} {noun}s."


def matching(scene: Scene, color: str = "", kind: str = "") -> list[Shape]:
    """The scene's shapes of that color (any if empty) and that kind (any if empty)."""
    return [s for s in scene.shapes if color in ("", s.color) and kind in ("", s.kind)]


def noun_of(color: str = "", kind: str = "") -> str:
    """`red circle`, `circle`, `red shape` or `shape`."""
    return " ".join(word for word in (color, kind or "shape") if word)


def not_one(number: int, noun: str) -> str:
    """The answer when a question takes for granted one `noun`, and there are `number`."""
    return f"There is no {noun}." if number == 0 else f"There are {NUMBERS[number]} {noun}s."


def at(scene: Scene, quarter: str) -> Shape | None:
    """The shape in that quarter, if any."""
    return next((shape for shape in scene.shapes if shape.quarter == quarter), None)


def color_of(scene: Scene, kind: str) -> str:
    """The color of the only shape of that kind."""
    found = matching(scene, kind=kind)
    return f"It is {found[0].color}." if len(found) == 1 else not_one(len(found), kind)


def kind_of(scene: Scene, color: str) -> str:
    """The kind of the only shape of that color."""
    found = matching(scene, color)
    if len(found) == 1:
        return f"It is {with_article(found[0].kind)}."
    return not_one(len(found), noun_of(color))


def place_of(scene: Scene, color: str, kind: str) -> str:
    """The quarter of the only shape of that color and kind (either may be empty)."""
    found = matching(scene, color, kind)
    if len(found) == 1:
        return f"It is at the {found[0].quarter}."
    return not_one(len(found), noun_of(color, kind))


def color_at(scene: Scene, quarter: str) -> str:
    """The color of the shape in that quarter."""
    shape = at(scene, quarter)
    return f"It is {shape.color}." if shape else f"There is no shape at the {quarter}."


def kind_at(scene: Scene, quarter: str) -> str:
    """The kind of the shape in that quarter."""
    shape = at(scene, quarter)
    if shape is None:
        return f"There is no shape at the {quarter}."
    return f"It is {with_article(shape.kind)}."


def shape_at(scene: Scene, quarter: str) -> str:
    """Color and kind of the shape in that quarter."""
    shape = at(scene, quarter)
    if shape is None:
        return f"There is no shape at the {quarter}."
    return f"It is {with_article(shape.name)}."


def which_image(holds: list[bool]) -> str:
    """Which of two images something is true of."""
    if all(holds):
        return "Both images."
    if not any(holds):
        return "Neither image."
    return f"The {ORDINALS[holds.index(True)]} image."


def captions_of_both(scenes: list[Scene]) -> str:
    """A caption for each of two images."""
    pairs = zip(ORDINALS, scenes, strict=True)
    return " ".join(caption(scene, f"The {ordinal} image") for ordinal, scene in pairs)

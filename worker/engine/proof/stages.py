"""What shows each ability: questions asked with it, and with those before it that held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from worker.engine.model.family import Abilities, Split
from worker.engine.model.model import LoadedModel
from worker.engine.proof.lengths import Beyond
from worker.engine.proof.questions import (
    CHANGED,
    PICTURE,
    PICTURE_LATER,
    PICTURES,
    PICTURES_TURNED,
    TEXT,
    TEXT_LATER,
    Question,
)

MOST_ROWS = 16

SHORT_TEXT, LONG_TEXT = TEXT[0], TEXT[2]


@dataclass(frozen=True)
class Round:
    """Questions asked side by side.

    Attributes:
        joining: asked one after the other while those are being answered, so that rows come and go
            beside them, a short one where a longer one has been.
        cold: with nothing remembered.
        apart: by another tenant: no prompt that is remembered is of use, only features are.
        in_pieces: prompts are prefilled in several pieces, pictures cut within.
        drafted: with drafts of what was said without them.
    """

    together: tuple[Question, ...]
    joining: tuple[Question, ...] = ()
    cold: bool = False
    apart: bool = False
    in_pieces: bool = False
    drafted: bool = False

    @property
    def words(self) -> str:
        count = len(self.together) + len(self.joining)
        how = "alone" if count == 1 else f"with {count} rows"
        if self.drafted:
            return f"{how}, with drafts"
        return f"{how}, in pieces" if self.in_pieces else how


@dataclass(frozen=True)
class Stage:
    """
    Attributes:
        ability: what is tried; "text" is what no model is served without.
    """

    ability: str
    rounds: tuple[Round, ...]


def alone(*questions: Question, cold: bool = False, in_pieces: bool = False) -> tuple[Round, ...]:
    """One after the other."""
    return tuple(Round((question,), cold=cold, in_pieces=in_pieces) for question in questions)


TEXT_ALONE = Stage("text", alone(SHORT_TEXT, LONG_TEXT))
PICTURES_ALONE = Stage("pictures", alone(PICTURE, CHANGED))
SEVERAL = Stage("several_pictures", alone(PICTURES, PICTURES_TURNED))
SPLIT = Stage("picture_splitting", SEVERAL.rounds)


def all_at_once(model: LoadedModel, turns: Sequence[Question]) -> Stage:
    """Everything that this model's family may do, in as few answers as show it: most models have
    no fault, and large ones take their time. What was asked once is asked again in another
    company, since mlx-vlm's answer to it is known.

    Args:
        turns: questions of a second turn that can be asked.
    """
    able = model.family.abilities
    pictures = [*([PICTURE, CHANGED] * able.pictures), *([PICTURES] * able.several_pictures)]
    first = PICTURES_TURNED if able.several_pictures else (*pictures, SHORT_TEXT)[0]
    two = (SHORT_TEXT, *pictures[:1], TEXT[1])[:2]
    five = (SHORT_TEXT, *pictures[::2], TEXT[1], SHORT_TEXT, TEXT[1], SHORT_TEXT)[:5]
    cut = alone(first, LONG_TEXT, cold=True, in_pieces=True)
    rounds = [
        *((_coming_and_going(first),) if able.batching else cut),
        Round(two),
        Round((LONG_TEXT, *pictures[:2], *turns, TEXT[1])[:5]),
        *(Round((question,), apart=True) for question in pictures[:1]),
        Round(five, cold=True),
    ]
    rows = model.kv_heads
    if 1 < rows <= MOST_ROWS and rows not in (2, 3, 5):
        rounds.append(Round(tuple(islice(cycle(five), rows))))
    return Stage("text", tuple(rounds))


def all_beyond(asked: Beyond) -> Stage:
    """The same of prompts beyond a length that the model declares."""
    return Stage(
        "text",
        (
            *alone(asked.whole, cold=True, in_pieces=True),
            Round((asked.early, asked.late)),
            Round((asked.up_to, SHORT_TEXT, asked.late), cold=True),
        ),
    )


def drafts(so_far: Abilities, long: Sequence[Beyond]) -> Stage:
    """Several tokens of a row fed at once, some of them taken back: alone and in company, across
    the lengths that the model declares, too."""
    pictures = [PICTURE] * so_far.pictures
    asked = [
        (LONG_TEXT,),
        (SHORT_TEXT, LONG_TEXT, *pictures, TEXT[1]),
        *((one.up_to, SHORT_TEXT) for one in long),
    ]
    return Stage("speculation", tuple(Round(questions, drafted=True) for questions in asked))


def tried_at_once(model: LoadedModel) -> list[str]:
    """The abilities that `all_at_once` shows."""
    able = model.family.abilities
    none = {"speculation"}
    if model.family.split is Split.NOT or not able.several_pictures:
        none |= {"picture_splitting"}
    if not able.pictures:
        none |= {"vision_cache"}
    return [name for name, may in able.as_dict().items() if may and name not in none]


def later_stages(
    model: LoadedModel, so_far: Abilities, turns: Sequence[Question], long: Sequence[Beyond]
) -> list[Stage]:
    """What remains to be tried once text and pictures alone have been.

    Args:
        so_far: whether pictures are answered about, and several.
        turns: questions of a second turn that can be asked.
        long: prompts beyond the lengths that the model declares.
    """
    family = model.family
    text_later = [TEXT_LATER] if TEXT_LATER in turns else []
    picture_later = [PICTURE_LATER] if PICTURE_LATER in turns else []
    one, several = so_far.pictures, so_far.several_pictures
    pictures = [*([PICTURE, CHANGED] * one), *([PICTURES, PICTURES_TURNED] * several)]
    stages = []
    if several and family.split is not Split.NOT:
        stages.append(SPLIT)
    if one:
        again = alone(*pictures, PICTURE, *picture_later)
        stages.append(Stage("vision_cache", again))
    seen = [*pictures, PICTURE, *picture_later, CHANGED] if one else []
    read = [LONG_TEXT, LONG_TEXT, *text_later, SHORT_TEXT]
    read += [question for one in long for question in (one.whole, one.whole, one.early, one.late)]
    stages.append(Stage("prefix_cache", alone(*read, *seen)))
    cut = [LONG_TEXT, *pictures[::2], *(one.whole for one in long)]
    stages.append(Stage("pieces", alone(*cut, cold=True, in_pieces=True)))
    if family.abilities.batching:
        later = [*text_later, *picture_later]
        rounds = _side_by_side(pictures, later, model.kv_heads)
        stages.append(Stage("batching", (*rounds, *_long_side_by_side(long))))
    return [stage for stage in stages if getattr(family.abilities, stage.ability)]


def _side_by_side(
    pictures: list[Question], later: list[Question], kv_heads: int
) -> tuple[Round, ...]:
    """
    Args:
        kv_heads: with as many rows, arrays that do not belong together may have shapes that fit.
    """
    counts = {2, 3, 5} | ({kv_heads} if 1 < kv_heads <= MOST_ROWS else set())
    rows = [Round(tuple(islice(cycle(TEXT), count)), cold=True) for count in sorted(counts)]
    warm = Round((*TEXT[1:], *later))
    if not pictures:
        return (*rows, warm, _coming_and_going(SHORT_TEXT))
    mixed = (SHORT_TEXT, *pictures[::2], LONG_TEXT, pictures[1])
    return (
        *rows,
        warm,
        Round(mixed, cold=True),
        Round((*pictures[1:], *later, TEXT[1])),
        _coming_and_going(pictures[-1]),
    )


def _coming_and_going(first: Question) -> Round:
    """Rows of unlike lengths that join one which is being answered."""
    return Round((TEXT[1],), (first, LONG_TEXT, SHORT_TEXT), cold=True, in_pieces=True)


def _long_side_by_side(long: Sequence[Beyond]) -> Iterator[Round]:
    for one in long:
        yield Round((one.up_to, SHORT_TEXT, one.late), cold=True)
        yield Round((one.whole, one.early, one.late))

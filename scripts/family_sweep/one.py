"""One family: a checkpoint of it, what mlx-vlm says, what the engine says."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.checkpoints.building import build
from scripts.checkpoints.families import family
from scripts.checkpoints.one_size import make_small
from scripts.family_sweep.asking import TOKENS, Engine, Question, Said, alone, together
from scripts.family_sweep.reference import Reference, reference
from scripts.family_sweep.row import EQUAL, NOT_ASKED, OFF, OTHER, Row
from worker.engine.interface import ModelError

MOST_TRIES = 6
"""How often mlx-vlm is asked the same where its first two answers differ."""


def sweep(name: str) -> Row:
    """Find out about one family, in a process that does nothing else."""
    described = family(name)
    row = Row(name, described.most_pictures)
    make_small(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(name, Path(scratch) / name)
        try:
            engine = Engine(folder)
        except ModelError as error:
            row.refused = str(error)
            return row
        _ask(row, folder, engine)
    return row


def _ask(row: Row, folder: Path, engine: Engine) -> None:
    beyond = {*("pictures", "several_pictures")[row.pictures :], *engine.of_no_use()}
    row.off = [name for name in engine.switched_off() if name not in beyond]
    asked = alone(row.pictures)
    answers = _References(row, folder, engine)
    for column, question in asked.items():
        engine.forget()
        row.said[column] = _compared(row, engine.answers([question]), [answers.to(question)])
    many = together(row.pictures)
    expected = [answers.to(question) for question in many]
    engine.forget()
    row.said["cold"] = _compared(row, engine.answers(many), expected)
    row.said["cached"] = _compared(row, engine.answers(many), expected)


class _References:
    """mlx-vlm's answers, asked for once a question."""

    def __init__(self, row: Row, folder: Path, engine: Engine) -> None:
        self._row, self._folder, self._engine = row, folder, engine
        self._known: dict[str, list[Reference]] = {}

    def to(self, question: Question) -> list[Reference]:
        """Its answer; several if it does not keep to one, none if it gives none: both are noted."""
        if question.name not in self._known:
            self._known[question.name] = self._asked(question)
        return self._known[question.name]

    def _asked(self, question: Question) -> list[Reference]:
        prompt = self._engine.prompt(question)
        found: list[Reference] = []
        for attempt in range(1, MOST_TRIES + 1):
            try:
                said = reference(self._folder, prompt, question.images, TOKENS)
            except Exception as error:
                self._row.upstream[question.name] = _brief(error)
                return []
            if not any(known.agrees(said.tokens) for known in found):
                found.append(said)
            elif len(found) == 1 and attempt > 1:
                return found
        self._row.upstream[question.name] = "its answer is not always the same"
        return found


def _compared(row: Row, said: Sequence[Said], expected: Sequence[list[Reference]]) -> str:
    """ "=" if all that can be compared is equal, else what is not."""
    found = set()
    for answer, wanted in zip(said, expected, strict=True):
        if not wanted:
            continue
        if answer.error == "invalid_request" and "pictures" in row.off:
            found.add(OFF)
        elif answer.error:
            found.add(answer.error)
            _note(row, f"{answer.error}: {answer.words}")
        else:
            equal = any(one.agrees(answer.tokens) for one in wanted)
            found.add(EQUAL if equal else OTHER)
    return " ".join(sorted(found - {EQUAL})) or (EQUAL if found else NOT_ASKED)


def _note(row: Row, words: str) -> None:
    if words not in row.notes:
        row.notes.append(words[:200])


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]

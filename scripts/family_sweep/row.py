"""What was found of a family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EQUAL, OTHER, NOT_ASKED, OFF = "=", "≠", "-", "off"
ALONE = ("text", "picture", "pictures", "turns")
COLUMNS = (*ALONE, "cold", "cached")


@dataclass
class Row:
    """
    Attributes:
        family: its name.
        pictures: how many a prompt of it may have.
        said: by column: "=", "≠", "off" where pictures are refused, the code of an error, or "-"
            where it was not asked.
        off: abilities that are switched off for it.
        upstream: by column, what mlx-vlm itself fails with, or how it contradicts itself.
        refused: why the engine does not serve it, in its words.
        broken: why nothing could be found out.
        notes: the first words of each kind of failure.
    """

    family: str
    pictures: int
    said: dict[str, str] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)
    upstream: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    broken: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`equal`, `partly off`, `refused`, `wrong`, `broken`, or `not comparable` where mlx-vlm
        itself has no answer at all."""
        if self.refused or self.broken:
            return "refused" if self.refused else "broken"
        if set(self.said.values()) - {EQUAL, NOT_ASKED, OFF}:
            return "wrong"
        if EQUAL not in self.said.values():
            return "not comparable"
        return "partly off" if self.off else "equal"

    def as_json(self) -> dict[str, object]:
        return {**dataclasses.asdict(self), "verdict": self.verdict}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Row:
        known = {one.name for one in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in known})

    def __str__(self) -> str:
        columns = " ".join(f"{name} {self.said.get(name, NOT_ASKED)}" for name in COLUMNS)
        parts = [f"{self.family}: {self.verdict}", columns]
        parts += [f"off: {', '.join(self.off)}"] if self.off else []
        parts += [f"mlx-vlm, {name}: {words}" for name, words in self.upstream.items()]
        parts += [one for one in (self.refused, self.broken, *self.notes) if one]
        return " · ".join(parts)

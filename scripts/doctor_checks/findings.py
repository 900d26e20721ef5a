"""One thing that was looked at, and what to do when it is wrong."""

from __future__ import annotations

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True)
class Finding:
    """`remedy` is only there when something should be mended. `wrong` alone fails the doctor."""

    said: str
    wrong: bool = False
    remedy: str = ""

    def __str__(self) -> str:
        mark = "WRONG" if self.wrong else "note " if self.remedy else "ok   "
        return f"{mark}  {self.said}" + (f"\n       {self.remedy}" if self.remedy else "")


def fine(said: str) -> Finding:
    return Finding(said)


def note(said: str, remedy: str) -> Finding:
    return Finding(said, remedy=remedy)


def wrong(said: str, remedy: str) -> Finding:
    return Finding(said, wrong=True, remedy=remedy)

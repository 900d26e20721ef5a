"""The form of a structured answer, as users write it: nothing says that it is closed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Shape(BaseModel):
    kind: Literal["circle", "square"]
    color: Literal["red", "blue"]

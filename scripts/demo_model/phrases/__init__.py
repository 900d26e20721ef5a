"""The tables that questions and answers are made of: one TOML file each, in this folder."""

import tomllib
from pathlib import Path
from typing import Any


def table(name: str) -> dict[str, Any]:
    """Read `name`.toml; its tables keep their order."""
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))

"""The families of models that checkpoints are made of, as the files of `families/` tell them.

Such a file holds `chat_format` (a name in `chat_formats/`), `config`, and what the processors want
to know. In `config` a special token stands for its id, "{width}", "{vocabulary}" and shares of
"{head}" for the sizes that are asked for; the language model's sizes go into its `text_config`,
if it has one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "families"
CHAT_FORMATS = Path(__file__).parent / "chat_formats"

FAMILIES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))

Json = dict[str, Any]


@dataclass(frozen=True)
class ChatFormat:
    """`names`: which of the special tokens the tokenizer knows by a name."""

    template: str
    special_tokens: list[str]
    names: dict[str, str]


@dataclass(frozen=True)
class Family:
    """Contents of `config.json`, `preprocessor_config.json` and `processor_config.json` (empty:
    there is none)."""

    chat_format: str
    config: Json
    preprocessor: Json = field(default_factory=dict)
    processor: Json = field(default_factory=dict)

    def config_for(self, text: Json, token_ids: Mapping[str, int]) -> Json:
        """The whole configuration for these sizes of the language model, and tokens."""
        head = text["head_dim"]
        sizes = {"{width}": text["hidden_size"], "{vocabulary}": text["vocab_size"]}
        sizes |= {"{head/8}": head // 8, "{head*3/16}": head * 3 // 16}
        own: Json = _filled(self.config, {**token_ids, **sizes})
        if "text_config" in own:
            return {**own, "text_config": {**text, **own["text_config"]}}
        return {**text, **own}


def family(name: str) -> Family:
    """Raises FileNotFoundError: nobody has described it."""
    return Family(**_read(FOLDER / f"{name}.toml"))


def chat_format(name: str) -> ChatFormat:
    template = (CHAT_FORMATS / f"{name}.jinja").read_text(encoding="utf-8")
    return ChatFormat(template, **_read(CHAT_FORMATS / f"{name}.toml"))


def _read(path: Path) -> Json:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _filled(value: Any, numbers: Mapping[str, int]) -> Any:
    """A copy in which every string that stands for a number is that number."""
    if isinstance(value, dict):
        return {key: _filled(one, numbers) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, numbers) for one in value]
    return numbers.get(value, value) if isinstance(value, str) else value


SEEING = tuple(name for name in FAMILIES if "vision_config" in family(name).config)
"""Those that take pictures."""

"""The families of models that checkpoints are made of, as the files beside this one tell them.

`families/` holds those that the tests run over, `swept/` those that only `scripts/families` asks,
`text_families.toml` those of text alone whose configuration is a few numbers. A file holds
`chat_format` (a name in `chat_formats/`), `config`, and what the processors want to know. In
`config` a special token stands for its id, "{width}", "{vocabulary}", "{layers}" and shares of
"{head}" for the sizes that are asked for; the language model's sizes go into its `text_config`,
wherever that lies.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDERS = (HERE / "families", HERE / "swept")
CHAT_FORMATS = HERE / "chat_formats"
PICTURE = "@picture@"
"""Stands, in a chat format that several families share, for what each writes for a picture."""
NOT_WRITTEN = "{none}"
"""Stands for nothing at all, where a family must not be told one of the sizes."""
TEXT_PARTS = ("text_config", "language_config", "llm_config")
"""What families call the language model's part of a configuration."""

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
    there is none).

    Attributes:
        picture: what stands for a picture in a prompt, where the chat format leaves that open.
        special_tokens: those that the family has beside its chat format's.
        names: of tokens, beside the chat format's.
        most_pictures: how many a prompt may have; 0: it is of text alone.
        fixed_ids: of special tokens that mlx-vlm's processor takes for granted.
        embedding_scale: makes the embeddings smaller where they are large beside what the layers
            add, so that every answer would be one token again and again.
    """

    chat_format: str
    config: Json
    preprocessor: Json = field(default_factory=dict)
    processor: Json = field(default_factory=dict)
    picture: str = ""
    special_tokens: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    most_pictures: int = 2
    fixed_ids: dict[str, int] = field(default_factory=dict)
    embedding_scale: float = 1.0

    def config_for(self, text: Json, token_ids: Mapping[str, int]) -> Json:
        """The whole configuration for these sizes of the language model, and tokens."""
        head = text["head_dim"]
        sizes = {
            "{width}": text["hidden_size"],
            "{vocabulary}": text["vocab_size"],
            "{layers}": text.get("num_hidden_layers", 0),
            "{head/8}": head // 8,
            "{head*3/16}": head * 3 // 16,
        }
        own: Json = _filled(self.config, {**token_ids, **sizes})
        whole = _with_text(own, text) if _has_text_part(own) else {**text, **own}
        written: Json = _written(whole)
        return written

    def chat(self) -> ChatFormat:
        """Its chat format, with what this family adds to it."""
        shared = chat_format(self.chat_format)
        return ChatFormat(
            shared.template.replace(PICTURE, self.picture),
            [*shared.special_tokens, *self.special_tokens],
            {**shared.names, **self.names},
        )


def family(name: str) -> Family:
    """Raises KeyError: nobody has described it."""
    for folder in FOLDERS:
        path = folder / f"{name}.toml"
        if path.is_file():
            return Family(**_read(path))
    described = _of_text()[name]
    scale = described.pop("embedding_scale", 1.0)
    config = {"model_type": name, "eos_token_id": "<|im_end|>", **described}
    return Family("plain", config, most_pictures=0, embedding_scale=scale)


def chat_format(name: str) -> ChatFormat:
    template = (CHAT_FORMATS / f"{name}.jinja").read_text(encoding="utf-8")
    return ChatFormat(template, **_read(CHAT_FORMATS / f"{name}.toml"))


def _read(path: Path) -> Json:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _of_text() -> Json:
    return _read(HERE / "text_families.toml")


def _has_text_part(value: Any) -> bool:
    return isinstance(value, dict) and any(
        name in TEXT_PARTS or _has_text_part(one) for name, one in value.items()
    )


def _with_text(value: Any, text: Json) -> Any:
    """A copy in which every language model's part has these sizes where it has none of its own."""
    if not isinstance(value, dict):
        return value
    return {
        name: {**text, **one} if name in TEXT_PARTS else _with_text(one, text)
        for name, one in value.items()
    }


def _written(value: Any) -> Any:
    """A copy without what is not to be written."""
    if not isinstance(value, dict):
        return value
    return {name: _written(one) for name, one in value.items() if one != NOT_WRITTEN}


def _filled(value: Any, numbers: Mapping[str, int]) -> Any:
    """A copy in which every string that stands for a number is that number."""
    if isinstance(value, dict):
        return {key: _filled(one, numbers) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, numbers) for one in value]
    return numbers.get(value, value) if isinstance(value, str) else value


def _in_folder(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


FAMILIES = _in_folder(FOLDERS[0])
"""Those that every test of families runs over."""
SEEING = tuple(name for name in FAMILIES if "vision_config" in family(name).config)
"""Those of them that take pictures."""
SWEPT = (*FAMILIES, *_in_folder(FOLDERS[1]), *sorted(_of_text()))
"""All that can be made."""

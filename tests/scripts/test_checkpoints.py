"""A family of checkpoints is one file, and says all that building one needs."""

from __future__ import annotations

import json
import re

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.checkpoints.families import FAMILIES, PICTURE, SEEING, SWEPT, chat_format, family

SIZES = {"hidden_size": 64, "vocab_size": 400, "head_dim": 16, "num_hidden_layers": 2}


@pytest.mark.parametrize("name", SWEPT)
def test_what_stands_for_a_number_becomes_one(name: str) -> None:
    described = family(name)
    chat = described.chat()
    token_ids = {token: 300 + index for index, token in enumerate(chat.special_tokens)}
    written = json.dumps(described.config_for(SIZES, token_ids))
    assert not re.search(r"\"\{[^\"]*\}\"", written)
    assert not [token for token in chat.special_tokens if f'"{token}"' in written]
    assert '"vocab_size": 400' in written
    assert PICTURE not in chat.template
    assert set(chat.names.values()) <= set(chat.special_tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_sizes_are_those_of_the_language_model(name: str) -> None:
    config = family(name).config_for(SIZES, {})
    assert config["model_type"] == name
    text = config.get("text_config", config)
    assert (text["hidden_size"], text["vocab_size"]) == (64, 400)


def test_a_family_that_sees_has_what_its_processor_wants_to_know() -> None:
    for name in FAMILIES:
        assert bool(family(name).preprocessor) == (name in SEEING)


@pytest.mark.parametrize("name", sorted({family(name).chat_format for name in FAMILIES}))
def test_a_prompt_ends_where_the_answer_begins(name: str) -> None:
    written = chat_format(name)
    assert set(written.names.values()) <= set(written.special_tokens)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(written.template)
    content: object = [{"type": "text", "text": "Hello"}]
    if name in ("llama", "harmony"):  # of text alone
        content = "Hello"
    messages = [{"role": "user", "content": content}]
    asked = template.render(messages=messages, bos_token="", add_generation_prompt=True)
    assert asked.startswith(template.render(messages=messages, bos_token=""))
    assert "Hello" in asked and len(asked) > asked.index("Hello") + len("Hello")

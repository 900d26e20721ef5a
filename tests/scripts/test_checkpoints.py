"""A family of checkpoints is one file, and says all that building one needs."""

from __future__ import annotations

import json
import re

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.checkpoints.families import FAMILIES, SEEING, chat_format, family

SIZES = {"hidden_size": 64, "vocab_size": 400, "head_dim": 16}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_stands_for_a_number_becomes_one(name: str) -> None:
    described = family(name)
    tokens = chat_format(described.chat_format).special_tokens
    token_ids = {token: 300 + index for index, token in enumerate(tokens)}
    config = described.config_for(SIZES, token_ids)
    written = json.dumps(config)
    assert config["model_type"] == name
    assert not re.search(r"\"\{[^\"]*\}\"", written)
    assert not [token for token in tokens if f'"{token}"' in written]
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

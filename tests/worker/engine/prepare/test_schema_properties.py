"""Whatever stands in a schema: it is made into a grammar, or refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from shared.messages import ResponseFormat, Tool, ToolPolicy
from tests.properties import examples
from tests.worker.engine.driving import job
from worker.engine.faults import JobFault
from worker.engine.prepare.grammar import GrammarMaker
from worker.engine.prepare.subschemas import BY_NAME, LISTS, SINGLE

PLAIN = ("type", "const", "enum", "required", "pattern", "format", "$ref", "$anchor", "$id")
NUMBERS = ("minimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems")
KEYWORDS = sorted({*BY_NAME, *LISTS, *SINGLE, *PLAIN, *NUMBERS, "unevaluatedProperties"})
NAMES = st.sampled_from(("a", "", "é", '"', "object", "string", "array", "integer"))
POINTERS = st.sampled_from(
    ("#", "#/", "#/$defs/a", "#/properties/a", "#/allOf/0", "#a", "#/%", "x", "https://x/y#/a")
)
LEAVES = (
    st.none() | st.booleans() | NAMES | POINTERS | st.floats(allow_nan=False, allow_infinity=False)
) | st.integers(-(2**70), 2**70)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
INTERPRETERS = re.compile(
    "unhashable|not iterable|has no attribute|subscriptable|unsupported operand|slice indices"
    "|not supported between|argument of type|cannot convert"
)
"""Words that are not for clients."""
SCHEMAS = st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=5)


@pytest.fixture(scope="module")
def maker(checkpoint: Callable[[str], Path]) -> GrammarMaker:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint("llama"))
    return GrammarMaker(tokenizer, len(tokenizer), frozenset({tokenizer.eos_token_id}))


@given(schema=SCHEMAS, strict=st.booleans())
@settings(max_examples=examples(150))
def test_it_is_compiled_or_refused(
    maker: GrammarMaker, schema: dict[str, Any], strict: bool
) -> None:
    form = ResponseFormat(schema=schema, strict=strict)
    tools = ToolPolicy(tools=[Tool(name="f", parameters=schema, strict=strict)], mode="required")
    for fields in ({"response_format": form}, {"tool_policy": tools}):
        made, _ = job("x", **fields)
        try:
            maker.make(made)
        except JobFault as fault:
            assert fault.code == "invalid_request"
            assert fault.param in ("response_format", "tools")
            assert not INTERPRETERS.search(fault.message), fault.message

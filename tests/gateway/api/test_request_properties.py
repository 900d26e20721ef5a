"""Whatever JSON comes in: it is understood, or refused with a 400; nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.common.conversation import ImageRules
from gateway.api.common.parameters import parse
from gateway.api.dialect import DIALECTS, Dialect
from gateway.api.job import to_job
from gateway.errors import InvalidRequest
from shared import wire
from shared.messages import ImageInfo, Submit
from tests.gateway.fake_dispatch import FakeTicket
from tests.properties import examples

RULES = ImageRules(max_images=4, vision_only=False)


# Whole requests, whose parts are then swapped and spoilt.
SEEDS: dict[str, Any] = {
    "chat.completions": {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "content": "x", "tool_call_id": "c"},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:;base64,AA"}}],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [1]}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "logit_bias": {"5": 1},
        "stop": ["x"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "chat_template_kwargs": {"a": 1},
    },
    "completions": {"prompt": "a", "max_tokens": 3, "logprobs": 2, "echo": False, "n": 2},
    "messages": {
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "a"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": "x", "is_error": True},
                    {"type": "image", "source": {"type": "url", "url": "http://a/b"}},
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 3},
    },
    "responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "h"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"},
            {"role": "user", "content": "b"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low"},
    },
    "messages.count_tokens": {"system": "s", "messages": [{"role": "user", "content": "a"}]},
}

SPOILERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**64), 10**40, 0, -1]),
    st.floats(allow_nan=True),
    st.text(max_size=5),
    st.sampled_from(["user", "assistant", "tool", "text", "function", "c", "f", "http://a", "\0"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers() | st.none(), max_size=2),
    st.sampled_from(list(SEEDS.values())).map(copy.deepcopy),
)


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    value = copy.deepcopy(draw(st.sampled_from(list(SEEDS.values()))))
    for _ in range(draw(st.integers(0, 3))):
        holder, key = _some_place(draw, value)
        action = draw(st.sampled_from(["replace", "drop", "double"]))
        if action == "replace":
            holder[key] = draw(SPOILERS)
        elif action == "drop":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[draw(st.text(max_size=4))] = copy.deepcopy(holder[key])
        if not value:
            break
    return value


def _some_place(draw: st.DrawFn, value: Any) -> tuple[Any, Any]:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw(st.sampled_from(keys))
        inner = value[key]
        if not (isinstance(inner, dict | list) and inner) or draw(st.booleans()):
            return value, key
        value = inner


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@settings(max_examples=examples(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(value=spoilt())
def test_every_request_is_understood_or_refused(dialect: Dialect[Any], value: Any) -> None:
    try:
        body = parse(dialect.body, json.dumps(value).encode())
        generation = dialect.translate(body, RULES, "")
    except InvalidRequest as refusal:
        assert refusal.message
        return
    info = ImageInfo(sha256="0" * 64, media_type="image/png", width_px=8, height_px=6)
    images = [[info] for _ in generation.images]
    job = to_job(generation, images, FakeTicket(0, generation, None), "request")
    frames = wire.encode(Submit(job=job, budget_s=1.0))
    assert wire.decode([*frames, *(b"picture" for _ in images)], Submit)
    if dialect.renderer is not None:
        dialect.renderer(body, generation)


def test_the_seeds_are_understood() -> None:
    for dialect in DIALECTS:
        body = parse(dialect.body, json.dumps(SEEDS[dialect.name]).encode())
        dialect.translate(body, RULES, "")


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    for dialect in DIALECTS:
        try:
            parse(dialect.body, body)
        except InvalidRequest:
            continue

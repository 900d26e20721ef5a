"""The table of parameters knows every field of OpenAI's specification."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import msgspec
import pytest
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter
from pydantic_core import from_json

from gateway.api.chat.models import ChatCompletionRequest
from gateway.api.common.parameters import parameter_table, parse
from gateway.api.dialect import DIALECTS, Dialect
from tests.gateway.serving import gateway

EXTRAS = {
    "top_k",
    "min_p",
    "repetition_penalty",
    "chat_template_kwargs",
    "enable_thinking",
    "thinking",
    "max_pixels",
    "min_pixels",
    "mm_processor_kwargs",
    "ignore_eos",
    "ttl",
    "cache_prompt",
    "timings_per_token",
    "spaces_between_special_tokens",
    "skip_special_tokens",
    "include_stop_str_in_output",
    "min_tokens",
    "best_of",
    "use_beam_search",
    "early_stopping",
    "length_penalty",
}


def test_every_field_of_the_specification_is_decided() -> None:
    specified: dict[str, Any] = {}
    specified |= get_type_hints(completion_create_params.CompletionCreateParamsNonStreaming)
    assert set(ChatCompletionRequest.model_fields) == set(specified) | EXTRAS


def test_the_table_shows_support_range_and_meaning() -> None:
    rows = {row["name"]: row for row in parameter_table(ChatCompletionRequest)}
    assert set(rows) == set(ChatCompletionRequest.model_fields)
    assert rows["moderation"]["support"] == "refused"
    assert rows["user"]["support"] == "ignored"
    temperature = rows["temperature"]
    assert temperature["support"] == "honoured"
    assert {"type": "number", "minimum": 0.0, "maximum": 2.0} in temperature["schema"]["anyOf"]
    assert all(row["meaning"] for row in rows.values())


async def test_capabilities_serve_the_table() -> None:
    async with gateway() as running:
        body = (await running.client.get("/v1/capabilities")).json()
    assert body["chat.completions"] == parameter_table(ChatCompletionRequest)
    assert body["completions"]
    assert body["messages.count_tokens"]


def lists_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Every list whose items are checked, wherever in a type's schema it stands."""
    if isinstance(schema, dict):
        if schema.get("type") == "list" and schema.get("items_schema", {}).get("type") != "any":
            yield schema
        schema = [value for key, value in schema.items() if key != "metadata"]
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from lists_of(part)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_first_wrong_item_of_a_list_ends_its_check(dialect: Dialect[Any]) -> None:
    """Only one is told of, and 200,000 took a second to gather."""
    found = list(lists_of(TypeAdapter(dialect.body).core_schema))
    assert found
    assert [schema for schema in found if not schema.get("fail_fast")] == []


def test_a_long_text_is_not_copied_for_each_level_it_stands_at() -> None:
    """Nobody else is served while it is. Each copy takes as long as reading it does."""
    content = [{"type": "text", "text": "x" * 4_000_000}]
    body = msgspec.json.encode({"messages": [{"role": "user", "content": content}]})
    reading_s = least_cpu_s(lambda: from_json(body))
    parsing_s = least_cpu_s(lambda: parse(ChatCompletionRequest, body))
    assert parsing_s < 2 * reading_s


def least_cpu_s(call: Callable[[], object]) -> float:
    def once() -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    return min(once() for _ in range(7))

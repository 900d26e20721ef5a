"""The checkpoint's chat template renders whatever a client may legally send."""

from pathlib import Path
from typing import Any

import pytest

jinja2 = pytest.importorskip("jinja2")
from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: E402

TEMPLATE = Path(__file__).parents[3] / "worker/demo_model/chat_template.jinja"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


def render(messages: list[dict[str, Any]], **options: Any) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(messages=messages, **options)


def test_parts_are_rendered_in_the_order_sent() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:..."}},
        {"type": "text", "text": "b"},
        {"type": "image"},
    ]
    text = render([{"role": "user", "content": parts}], add_generation_prompt=True)
    assert text == (f"<|im_start|>user\na{PICTURE}b{PICTURE}<|im_end|>\n<|im_start|>assistant\n")


def test_developer_is_system() -> None:
    assert render([{"role": "developer", "content": "Be brief."}]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
    )


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": ""}]])
def test_empty_content(content: Any) -> None:
    assert render([{"role": "assistant", "content": content}]) == (
        "<|im_start|>assistant\n<|im_end|>\n"
    )


def test_missing_content_and_no_messages() -> None:
    assert render([{"role": "user"}]) == "<|im_start|>user\n<|im_end|>\n"
    assert render([]) == ""


@pytest.mark.parametrize("arguments", ['{"at": "top left"}', {"at": "top left"}])
def test_tool_calls_and_results(arguments: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "a star"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "two"}]},
    ]
    text = render(messages, tools=[TOOL], add_generation_prompt=True)
    assert text.count("<|im_start|>system") == 1
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert '<tools>\n{"function": {"name": "look"' in text
    assert '<tool_call>\n{"name": "look", "arguments": {"at": "top left"}}\n</tool_call>' in text
    assert (
        "<|im_start|>user\n<tool_response>\na star\n</tool_response>"
        "\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
    ) in text


def test_tools_without_a_system_message() -> None:
    text = render([{"role": "user", "content": "Hi"}], tools=[TOOL])
    assert text.startswith("<|im_start|>system\n# Tools")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n")

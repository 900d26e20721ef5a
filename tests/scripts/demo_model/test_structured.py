"""The demo model's requests with a form have the one right answer, in the form they demand."""

from __future__ import annotations

import json
import random
from itertools import takewhile
from typing import Any

import msgspec
import pytest
from transformers import PreTrainedTokenizerFast

from scripts.demo_model.checkpoint import CHECKPOINT
from scripts.demo_model.evaluation import said
from scripts.demo_model.questions import Example, Message
from scripts.demo_model.scenes import Scene, Shape
from scripts.demo_model.structured.examples import (
    STRUCTURED_KINDS,
    random_example,
    tool_examples,
)
from scripts.demo_model.structured.masks import AnswerMasks, job_of
from scripts.demo_model.structured.topics import about_scene
from shared.messages import ChatMessage, ImagePart, TextPart, ToolCall
from worker.engine.prepare.prompt import PromptWriter

VOCABULARY = 1024


def requests(kind: str, count: int = 150) -> list[Example]:
    rng = random.Random(kind)
    return [random_example(kind, rng) for _ in range(count)]


def fields_of(example: Example) -> dict[str, Any]:
    schema = example.request["response_format"]["json_schema"]["schema"]
    return dict(schema["properties"])


def until_user(example: Example) -> list[Message]:
    return list(takewhile(lambda message: message["role"] != "user", example.messages))


def as_sent(message: Message) -> ChatMessage:
    """As the gateway translates it."""
    content = message["content"] or []
    parts = [{"text": content}] if isinstance(content, str) else content
    calls = [(call["id"], call["function"]) for call in message.get("tool_calls", [])]
    return ChatMessage(
        role="system" if message["role"] == "developer" else message["role"],
        content=[TextPart(p["text"]) if "text" in p else ImagePart(index=0) for p in parts],
        tool_calls=[ToolCall(id=key, **function) for key, function in calls],
        tool_call_id=message.get("tool_call_id"),
    )


@pytest.mark.parametrize("kind", STRUCTURED_KINDS)
def test_what_is_learnt_is_the_servers_prompt(kind: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)
    writer = PromptWriter(
        tokenizer,
        None,
        model_type="qwen2_vl",
        template=tokenizer.chat_template,
        image_marker="",
        image_position="as-sent",
    )
    for example in requests(kind, 20):
        messages = [as_sent(message) for message in example.messages]
        served = writer.write(msgspec.structs.replace(job_of(example.request), messages=messages))
        learnt = tokenizer.apply_chat_template(
            example.messages,
            tools=example.request.get("tools"),
            tokenize=False,
            add_generation_prompt=True,
        )
        assert learnt == served


def test_json_has_one_to_four_fields_of_the_declared_types() -> None:
    types = {"string": str, "integer": int, "boolean": bool}
    asked = requests("json")
    for example in asked:
        fields, answer = fields_of(example), json.loads(example.answer)
        assert list(answer) == list(fields)
        for name, value in answer.items():
            assert type(value) is types[fields[name]["type"]]
            assert value in fields[name].get("enum", [value])
    assert {len(fields_of(example)) for example in asked} == {1, 2, 3, 4}


def test_a_call_is_of_one_of_one_to_three_tools() -> None:
    asked = requests("forced calls")
    for example in asked:
        (call,) = json.loads(example.answer)
        tools = {one["function"]["name"]: one["function"] for one in example.request["tools"]}
        assert list(call["arguments"]) == tools[call["name"]]["parameters"]["required"]
    assert {len(example.request["tools"]) for example in asked} == {1, 2, 3}


@pytest.mark.parametrize("kind", ["json", "forced calls"])
def test_pictures_come_before_and_after_the_text(kind: str) -> None:
    last = [example.messages[-1]["content"] for example in requests(kind) if example.scenes]
    assert {content[0]["type"] for content in last} == {"image", "text"}


def test_what_is_said_of_a_whole_image() -> None:
    star = Shape("star", "red", "top right", (255, 0, 0), 0.3)
    circle = Shape("circle", "blue", "bottom right", (0, 0, 255), 0.3)
    scene = Scene(100, 100, "white", (255, 255, 255), (star, circle))
    facts = about_scene(scene, random.Random(0)).facts
    assert facts["color"] == "red" and facts["kind"] == "star"
    assert facts["count"] == 2 and facts["background"] == "white"
    assert facts["top_left"] == "none" and facts["bottom_right"] == "blue circle"
    assert facts["stars"] == 1 and facts["has_square"] is False


def test_conversations_with_the_same_tools_begin_alike() -> None:
    first, *others = tool_examples(4, 0.5, random.Random(1))
    for other in others:
        assert other.request["tools"] == first.request["tools"]
        assert until_user(other) == until_user(first)


@pytest.mark.parametrize("kind", STRUCTURED_KINDS)
def test_the_server_lets_the_right_answer_be_said(kind: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)
    masks = AnswerMasks(tokenizer, VOCABULARY)
    for example in requests(kind, 20):
        tokens = tokenizer.encode(example.answer, add_special_tokens=False)
        allowed = masks.of(example.request, [*tokens, tokenizer.eos_token_id])
        assert (allowed is not None) == (kind in ("json", "forced calls"))


def test_a_wrong_form_is_noticed() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)
    example = requests("json", 1)[0]
    with pytest.raises(ValueError, match="demanded form"):
        AnswerMasks(tokenizer, VOCABULARY).of(example.request, tokenizer.encode("It is red."))


def test_calls_are_compared_by_what_they_say() -> None:
    call = {"function": {"name": "look", "arguments": '{"at":1}'}}
    assert said({"content": None, "tool_calls": [call]}) == (
        '[{"name": "look", "arguments": {"at": 1}}]'
    )
    assert said({"content": "Yes."}) == "Yes."


def test_a_seed_asks_what_it_has_always_asked() -> None:
    assert requests("foreign", 20) == requests("foreign", 20)

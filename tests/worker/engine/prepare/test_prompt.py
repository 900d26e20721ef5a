"""Conversations as agents send them, for templates that are particular about system messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.messages import ChatMessage, TextPart
from tests.worker.engine.driving import assistant, job, user
from worker.engine.faults import JobFault
from worker.engine.model.model import LoadedModel, load_model
from worker.engine.options import EngineOptions
from worker.engine.prepare.prompt import PromptWriter, systems_first

TOLERANT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)
SILENT = TOLERANT.replace("%}[", "%}{% if m.role != 'system' %}[").replace(
    "{% endfor", "{% endif %}{% endfor"
)
NONE_AT_ALL = STRICT.replace(" and not loop.first", "")


def system(text: str) -> ChatMessage:
    return ChatMessage(role="system", content=[TextPart(text=text)])


AGENT = [system("A"), system("B"), user("hi"), system("C"), assistant("yes"), system("D")]


@pytest.fixture(scope="module")
def model(checkpoint: Callable[[str], Path]) -> LoadedModel:
    return load_model(EngineOptions(model_path=str(checkpoint("qwen2_vl"))), lambda part: None)


def written(
    model: LoadedModel, template: str, messages: list[ChatMessage], model_type: str = "qwen2_vl"
) -> str:
    writer = PromptWriter(
        model.tokenizer,
        model.processor,
        model_type=model_type,
        template=template,
        image_marker="<image>",
        image_position="as-sent",
    )
    return writer.write(job("x", messages)[0])


def test_a_template_that_takes_all_messages_gets_them_as_they_are(model: LoadedModel) -> None:
    text = written(model, TOLERANT, AGENT)
    assert text == "[system]A[system]B[user]hi[system]C[assistant]yes[system]D"


def test_a_template_that_takes_one_system_message_gets_one(model: LoadedModel) -> None:
    text = written(model, STRICT, AGENT)
    assert text == "[system]A\n\nB[user]hi\n\nC[assistant]yes[user]D"


@pytest.mark.parametrize("template", [NONE_AT_ALL, SILENT])
def test_a_template_that_takes_no_system_message_gets_a_users(
    model: LoadedModel, template: str
) -> None:
    assert written(model, template, [system("A"), user("hi")]) == "[user]A\n\nhi"
    text = written(model, template, AGENT)
    assert text == "[user]A\n\nB\n\nhi\n\nC[assistant]yes[user]D"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('nobody may speak') }}", "nobody may speak"),
        ("{{ 1 // 0 }}", "division"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(messages) }}", "recursion"),
        ("{{ messages.nothing.at_all }}", "no attribute"),
    ],
)
def test_what_a_template_cannot_take_at_all_is_the_clients_error(
    model: LoadedModel, template: str, words: str
) -> None:
    with pytest.raises(JobFault, match=words):
        written(model, template, AGENT)


def test_a_conversation_that_is_in_order_stays_as_it_is() -> None:
    plain = [system("A"), user("hi"), assistant("yes"), user("so?")]
    assert systems_first(plain) == plain


@pytest.mark.parametrize("last", [[user("And this?", 0)], [user("x", 0), user("And this?")]])
def test_where_the_prompt_is_one_bare_text_it_is_the_last_turn(
    model: LoadedModel, last: list[ChatMessage]
) -> None:
    """Also when the picture is of an earlier turn."""
    messages = [user("hi"), assistant("yes"), *last]
    assert written(model, TOLERANT, messages, "moondream3") == "And this?"

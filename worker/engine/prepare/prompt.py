"""From a conversation to the text that the model's own template makes of it.

Images stand where the client put them (or before or after the text, if the operator says so) and
in the form the template wants: as parts of a list where the template takes lists, else as the
family's marker within the text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from jinja2 import TemplateError
from mlx_vlm.prompt_utils import MODEL_CONFIG, get_chat_template, get_message_json

from shared.messages import ChatMessage, ImagePart, Job, TextPart, ToolCall
from worker.engine.faults import JobFault
from worker.engine.model.model import LoadedModel
from worker.engine.prepare.literal import Literals
from worker.engine.text.harmony import speaks_harmony
from worker.engine.text.tools import tool_instructions

PROBE = "WHEREAMI"
_TEMPLATE_ERRORS = (
    *(TemplateError, ValueError, TypeError, LookupError),
    *(ArithmeticError, AttributeError, RecursionError),
)
"""A template is a program: what it trips over is no fault of the server."""

Message = dict[str, Any]


class PromptWriter:
    """
    Args:
        tokenizer: renders templates (`apply_chat_template`).
        processor: asked only by mlx-vlm, for models without a template.
        template: the model's chat template, if it has one.
        image_marker: what stands for an image in templates that do not take lists.
        image_position: "as-sent", "before" or "after" a message's text.
        placeholders: tokens in whose places the features of pictures go.
    """

    def __init__(
        self,
        tokenizer: Any,
        processor: Any,
        *,
        model_type: str,
        template: str | None,
        image_marker: str,
        image_position: str,
        placeholders: Collection[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._model_type = model_type
        self._template = template
        self._image_marker = image_marker
        self._image_position = image_position
        self.literals = Literals(tokenizer, template, _spelled(tokenizer, placeholders))
        self._takes_lists = self._renders([{"type": "image"}, {"type": "text", "text": PROBE}])
        self._takes_strings = self._renders(PROBE)
        self._shows_systems = self._renders_systems()
        self._harmony = speaks_harmony(template)
        self.knows_tools = template is not None and "tools" in template

    @classmethod
    def of(cls, model: LoadedModel, image_position: str) -> PromptWriter:
        return cls(
            model.tokenizer,
            model.processor,
            model_type=model.model_type,
            template=model.chat_template,
            image_marker=model.image_marker,
            image_position=image_position,
            placeholders=model.family.placeholders,
        )

    def write(self, job: Job) -> str:
        """Render the job's prompt; what its texts spell of control tokens is marked (`literals`).

        Raises:
            JobFault: the template refuses this conversation (roles in a wrong order, ...), or the
                tokenizer would read a text of it as a control token.
        """
        if job.prompt is not None:
            return self.literals.tokenizable(self.literals.without_media(job.prompt), "prompt")
        messages = [self._literal(message) for message in job.messages]
        tools = (
            [self.literals.quoted(_openai_tool(tool)) for tool in job.tool_policy.tools]
            if job.tool_policy
            else None
        )
        if tools and not self.knows_tools:
            messages = _with_instructions(messages, tool_instructions(tools))
            tools = None
        refused: Exception | None = None
        for conversation in self._forms(messages):
            try:
                written = self._write(job, conversation, tools)
            except _TEMPLATE_ERRORS as error:
                refused = refused or error
            else:
                return self.literals.tokenizable(written, "messages")
        words = f"The model's chat template cannot take this conversation: {refused}"
        raise JobFault("invalid_request", words, "messages") from refused

    def _forms(self, messages: list[ChatMessage]) -> Iterator[list[ChatMessage]]:
        """The conversation as it is, then as more particular templates take it."""
        if self._shows_systems:
            yield messages
            if (simpler := systems_first(messages)) != messages:
                yield simpler
        yield without_systems(messages)

    # --- rendering ---------------------------------------------------------------------------

    def _write(
        self, job: Job, conversation: Sequence[ChatMessage], tools: list[Message] | None
    ) -> str:
        messages = [self._message(message) for message in conversation]
        return self._render(
            messages,
            tools,
            job.continue_final_message,
            self.literals.quoted(dict(job.template_options)),
        )

    def _render(
        self,
        messages: Sequence[Any],
        tools: list[Message] | None,
        continue_final: bool,
        options: Mapping[str, Any],
    ) -> str:
        if any(isinstance(message, str) for message in messages):
            # Families whose prompt is one bare text (PaliGemma): the last turn is the prompt.
            last = messages[-1]
            return last if isinstance(last, str) else str(last["content"])
        if self._template is None:
            text = str(get_chat_template(self._processor, list(messages), not continue_final))
            return text
        rendered: str = self._tokenizer.apply_chat_template(
            list(messages),
            tools=tools,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=not continue_final,
            continue_final_message=continue_final,
            **{name: value for name, value in options.items() if name not in _RESERVED},
        )
        return rendered

    def _renders(self, content: Any) -> bool:
        """Whether the template takes content of this form, tried once."""
        if self._template is None:
            return isinstance(content, str)
        try:
            text = self._render([{"role": "user", "content": content}], None, False, {})
        except _TEMPLATE_ERRORS:
            return False
        if PROBE not in text or "'type'" in text:
            return False
        if isinstance(content, str):
            return True
        bare = self._render([{"role": "user", "content": content[1:]}], None, False, {})
        return len(text) > len(bare)

    def _renders_systems(self) -> bool:
        """Whether a system message's text is in the prompt; some templates pass over it."""
        if self._template is None or not (self._takes_lists or self._takes_strings):
            return True
        content = PROBE if self._takes_strings else [{"type": "text", "text": PROBE}]
        turns = [{"role": role, "content": content} for role in ("system", "user")]
        try:
            return self._render(turns, None, False, {}).count(PROBE) == len(turns)
        except _TEMPLATE_ERRORS:
            return False

    # --- messages ----------------------------------------------------------------------------

    def _message(self, message: ChatMessage) -> Any:
        parts = self._placed(message.content)
        has_image = any(isinstance(part, ImagePart) for part in parts)
        if has_image and not self._takes_lists:
            return self._in_the_familys_words(message, parts)
        written: Message = {"role": message.role, "content": self._content(parts, has_image)}
        if message.name is not None:
            written["name"] = message.name
        if message.reasoning is not None:
            written["reasoning_content"] = message.reasoning
            # gpt-oss's template has a name of its own, and takes a call with one of the two.
            if self._harmony and not (message.tool_calls and message.content):
                written["thinking"] = message.reasoning
        if message.tool_calls:
            calls = [_openai_call(call) for call in message.tool_calls]
            written["tool_calls"] = self.literals.quoted(calls)
        if message.tool_call_id is not None:
            written["tool_call_id"] = message.tool_call_id
        return written

    def _literal(self, message: ChatMessage) -> ChatMessage:
        """The message with its texts quoted; calls are, once their arguments are parsed."""
        quoted = self.literals.quoted
        written = self.literals.spoken if message.role == "assistant" else quoted
        content = [
            TextPart(text=written(part.text)) if isinstance(part, TextPart) else part
            for part in message.content
        ]
        return msgspec.structs.replace(
            message,
            content=content,
            name=quoted(message.name),
            reasoning=message.reasoning and self.literals.spoken(message.reasoning),
            tool_call_id=quoted(message.tool_call_id),
        )

    def _placed(self, content: Sequence[TextPart | ImagePart]) -> list[TextPart | ImagePart]:
        if self._image_position == "as-sent":
            return list(content)
        images = [part for part in content if isinstance(part, ImagePart)]
        texts = [part for part in content if isinstance(part, TextPart)]
        return [*images, *texts] if self._image_position == "before" else [*texts, *images]

    def _content(self, parts: Sequence[TextPart | ImagePart], has_image: bool) -> Any:
        if not has_image and self._takes_strings:
            return "".join(part.text for part in parts if isinstance(part, TextPart))
        return _as_list(parts)

    def _in_the_familys_words(
        self, message: ChatMessage, parts: Sequence[TextPart | ImagePart]
    ) -> Any:
        """Let mlx-vlm write the images into the text, or do it with the model's own marker."""
        images = sum(isinstance(part, ImagePart) for part in parts)
        if self._model_type in MODEL_CONFIG:
            try:
                return get_message_json(
                    self._model_type, _as_list(parts), message.role, num_images=images
                )
            except ValueError as error:
                raise JobFault("invalid_request", str(error), "messages") from error
        text = "".join(
            part.text if isinstance(part, TextPart) else self._image_marker for part in parts
        )
        return {"role": message.role, "content": text}


def _spelled(tokenizer: Any, ids: Collection[int]) -> list[str]:
    """The tokens with these numbers, of those that the tokenizer has."""
    size = len(tokenizer)
    names = (tokenizer.convert_ids_to_tokens(one) for one in ids if 0 <= one < size)
    return [name for name in names if name]


def systems_first(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return a conversation for templates that take one system message, and that at the beginning.

    Agents send several, and more of them later: the first ones become one, the later ones a
    user's. Turns of a user that then follow each other become one, too.
    """
    return _merged(messages, lambda turns: any(turn.role != "system" for turn in turns))


def without_systems(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return a conversation for templates that know no system message: each is a user's, and one
    with the user's turn beside it."""
    return _merged(messages, lambda turns: True)


def _merged(
    messages: Sequence[ChatMessage], is_users: Callable[[list[ChatMessage]], bool]
) -> list[ChatMessage]:
    """Join turns of a kind; a system message after turns for which `is_users` is a user's."""
    turns: list[ChatMessage] = []
    for message in messages:
        role = message.role
        if role == "system" and is_users(turns):
            role = "user"
        if turns and turns[-1].role == role and role in ("system", "user"):
            parts = [*turns[-1].content, TextPart(text="\n\n"), *message.content]
            turns[-1] = msgspec.structs.replace(turns[-1], content=parts)
        else:
            turns.append(msgspec.structs.replace(message, role=role))
    return turns


_RESERVED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tools",
    }
)
"""Names of the rendering function itself, which template options must not touch."""


def _as_list(parts: Sequence[TextPart | ImagePart]) -> list[Message]:
    return [
        {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
        for part in parts
    ]


def _openai_tool(tool: Any) -> Message:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _openai_call(call: ToolCall) -> Message:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _with_instructions(messages: list[ChatMessage], instructions: str) -> list[ChatMessage]:
    """Put instructions into the system message, making one if there is none."""
    if messages and messages[0].role == "system":
        content = [*messages[0].content, TextPart(text=f"\n\n{instructions}")]
        return [msgspec.structs.replace(messages[0], content=content), *messages[1:]]
    return [ChatMessage(role="system", content=[TextPart(text=instructions)]), *messages]

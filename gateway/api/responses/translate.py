"""From OpenAI's response items to the one record that all dialects are translated into."""

from __future__ import annotations

from typing import Any

from gateway.api.common.conversation import Conversation, ImageRules, Parts
from gateway.api.common.pictures import longest_side_px
from gateway.api.common.sampling import token_limit
from gateway.api.common.template_options import template_options
from gateway.api.common.tools import tool_policy
from gateway.api.responses import models, tools
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest
from shared.messages import ImagePart, ResponseFormat, TextPart, ToolCall

LOGPROBS = "message.output_text.logprobs"
HARMLESS_INCLUDES = frozenset({LOGPROBS, "reasoning.encrypted_content"})
"""Stateless clients ask for encrypted thoughts to send them back; ours come in the open."""

NO_REFERENCES = (
    "no item is stored here that could be named by its id; send the item itself, with its content "
    "(Vercel's AI SDK does so with providerOptions.openai.store: false)"
)


def to_generation(
    body: models.ResponsesRequest, rules: ImageRules, tenant: str
) -> GenerationRequest:
    """Raises InvalidRequest."""
    conversation = Conversation(rules)
    if body.instructions:
        conversation.add_system([TextPart(text=body.instructions)], "instructions")
    if isinstance(body.input, str):
        conversation.add_user([TextPart(text=body.input)], "input")
    else:
        Turns(conversation).add_all(body.input)
    continues = conversation.finish("input")
    min_pixels, max_pixels = body.pixel_bounds()
    effort = body.reasoning.effort if body.reasoning else None
    return GenerationRequest(
        route="/v1/responses",
        renamed={"messages": "input", "response_format": "text.format"},
        model=body.model or None,
        stream=bool(body.stream),
        messages=conversation.turns,
        images=conversation.images,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        sampling=body.sampling(),
        continue_final_message=continues,
        max_tokens=token_limit(body.max_output_tokens),
        logprobs=_logprobs(body),
        response_format=_response_format(body.text),
        tool_policy=tool_policy(
            tools.functions(body.tools), tools.choice(body.tool_choice), body.parallel_tool_calls
        ),
        template_options=template_options(body.chat_template_kwargs, effort, body.enable_thinking),
        ignore_eos=bool(body.ignore_eos),
        tenant=tenant,
        idle_unload_s=body.ttl,
    )


class Turns:
    """Gathers items into turns: thoughts, a message and calls in a row are one turn of the
    assistant, which is added when something else follows."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._param = ""
        self._texts: Parts = []
        self._thoughts: list[str] = []
        self._calls: list[ToolCall] = []

    def add_all(self, items: list[models.Item]) -> None:
        """Raises InvalidRequest."""
        for index, item in enumerate(items):
            self._add(item, f"input[{index}]")
        self._end_turn()

    def _add(self, item: models.Item, path: str) -> None:
        if isinstance(item, models.ItemReference):
            param = f"{path}.id"
            raise InvalidRequest(
                f"{param}: {NO_REFERENCES}.", param=param, code="unsupported_parameter"
            )
        if isinstance(item, models.ReasoningItem):
            self._begin_turn(path, fresh=bool(self._texts or self._calls))
            texts = item.content or item.summary or []
            self._thoughts += [part.text for part in texts]
        elif isinstance(item, models.FunctionCall):
            self._begin_turn(path)
            name = tools.full_name(item.namespace, item.name)
            self._calls.append(ToolCall(id=item.call_id, name=name, arguments=item.arguments))
        elif isinstance(item, models.FunctionCallOutput):
            self._end_turn()
            self._add_output(item, path)
        elif item.role == "assistant":
            self._begin_turn(path, fresh=bool(self._texts or self._calls))
            self._texts = self._parts(item.content, f"{path}.content")
            self._param = f"{path}.content"
        else:
            self._end_turn()
            self._add_message(item, f"{path}.content")

    def _add_message(self, item: models.Message, param: str) -> None:
        parts = self._parts(item.content, param)
        if item.role == "user":
            self._conversation.add_user(parts, param)
        else:
            self._conversation.add_system(parts, param)

    def _add_output(self, item: models.FunctionCallOutput, path: str) -> None:
        self._conversation.add_tool_result(
            item.call_id,
            self._parts(item.output, f"{path}.output"),
            f"{path}.output",
            id_param=f"{path}.call_id",
            name=item.name and tools.full_name(item.namespace, item.name),
        )

    def _begin_turn(self, path: str, *, fresh: bool = False) -> None:
        if fresh:
            self._end_turn()
        self._param = self._param or path

    def _end_turn(self) -> None:
        if not self._param:
            return
        self._conversation.add_assistant(
            self._texts,
            self._param,
            calls=self._calls,
            calls_param=self._param,
            reasoning="\n".join(self._thoughts) or None,
        )
        self._param, self._texts, self._thoughts, self._calls = "", [], [], []

    def _parts(self, content: Any, param: str) -> Parts:
        if content is None:
            return []
        if isinstance(content, str):
            return [TextPart(text=content)]
        return [self._part(part, f"{param}[{index}]") for index, part in enumerate(content)]

    def _part(self, part: models.ContentPart, path: str) -> TextPart | ImagePart:
        if isinstance(part, models.InputImage):
            side = longest_side_px(part.detail)
            return self._conversation.image(part.image_url, f"{path}.image_url", side)
        if isinstance(part, models.InputFile):
            return _file(self._conversation, part, path)
        return TextPart(text=part.refusal if isinstance(part, models.Refusal) else part.text)


def _file(conversation: Conversation, part: models.InputFile, path: str) -> ImagePart:
    if part.file_data is None and part.file_url is None:
        param = f"{path}.file_data"
        raise InvalidRequest(f"{param}: is required, or file_url.", param=param)
    if part.file_data is not None and part.file_url is not None:
        param = f"{path}.file_url"
        raise InvalidRequest(f"{param}: cannot stand beside file_data; send one.", param=param)
    side = longest_side_px(part.detail)
    if part.file_url is not None:
        return conversation.image(part.file_url, f"{path}.file_url", side)
    return conversation.image(part.file_data or "", f"{path}.file_data", side)


def _logprobs(body: models.ResponsesRequest) -> int | None:
    includes = body.include or []
    for index, name in enumerate(includes):
        if name not in HARMLESS_INCLUDES:
            param = f"include[{index}]"
            raise InvalidRequest(
                f"{param}: {name!r} cannot be included; {LOGPROBS} can.",
                param=param,
                code="unsupported_parameter",
            )
    if body.top_logprobs or LOGPROBS in includes:
        return body.top_logprobs or 0
    return None


def _response_format(text: models.TextConfig | None) -> ResponseFormat | None:
    wanted = text.format if text else None
    if isinstance(wanted, models.JsonObjectFormat):
        return ResponseFormat()
    if isinstance(wanted, models.JsonSchemaFormat):
        return ResponseFormat(schema=wanted.schema_, strict=bool(wanted.strict))
    return None

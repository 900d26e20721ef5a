"""From Anthropic's messages to the one record that all dialects are translated into."""

from __future__ import annotations

import json
from typing import Any

from gateway.api.common.conversation import Conversation, ImageRules, Parts
from gateway.api.common.sampling import checked_stops, token_limit
from gateway.api.common.template_options import template_options
from gateway.api.common.tools import Choice, tool_policy
from gateway.api.messages import models
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest
from shared.messages import ResponseFormat, TextPart, Tool, ToolCall


def to_generation(
    body: models.MessagesRequest, rules: ImageRules, tenant: str
) -> GenerationRequest:
    """Raises InvalidRequest."""
    return _generation(
        body,
        rules,
        tenant,
        stream=bool(body.stream),
        max_tokens=token_limit(body.max_tokens),
        stop=checked_stops(body.stop_sequences, "stop_sequences"),
    )


def to_counting(
    body: models.CountTokensRequest, rules: ImageRules, tenant: str
) -> GenerationRequest:
    """Return the request whose prompt is to be counted. Raises InvalidRequest."""
    return _generation(body, rules, tenant, stream=False, max_tokens=1, stop=[])


def _generation(
    body: models.CountTokensRequest,
    rules: ImageRules,
    tenant: str,
    *,
    stream: bool,
    max_tokens: int | None,
    stop: list[str],
) -> GenerationRequest:
    conversation = Conversation(rules)
    if body.system is not None:
        conversation.add_system(_parts(conversation, body.system, "system"), "system")
    for index, message in enumerate(body.messages):
        _add_message(conversation, message, f"messages[{index}]")
    continues = conversation.finish("messages")
    min_pixels, max_pixels = body.pixel_bounds()
    output = body.output_config or models.OutputConfig()
    choice = body.tool_choice
    return GenerationRequest(
        route="/v1/messages",
        renamed={"response_format": "output_config.format"},
        model=body.model or None,
        stream=stream,
        messages=conversation.turns,
        images=conversation.images,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        sampling=body.sampling(),
        continue_final_message=continues,
        max_tokens=max_tokens,
        stop=stop,
        response_format=ResponseFormat(schema=output.format.schema_) if output.format else None,
        tool_policy=tool_policy(
            [_tool(tool) for tool in body.tools or []],
            _choice(choice),
            not (choice and choice.disable_parallel_tool_use),
        ),
        template_options=template_options(body.chat_template_kwargs, output.effort, _thinks(body)),
        ignore_eos=bool(body.ignore_eos),
        tenant=tenant,
        idle_unload_s=body.ttl,
    )


def _add_message(conversation: Conversation, message: models.Message, path: str) -> None:
    param = f"{path}.content"
    if isinstance(message, models.SystemMessage):
        conversation.add_system(_parts(conversation, message.content, param), param)
    elif isinstance(message, models.AssistantMessage):
        _add_assistant(conversation, message.content, param)
    else:
        _add_user(conversation, message.content, param)


def _add_user(conversation: Conversation, content: Any, param: str) -> None:
    """Tool results become turns of their own, before what else the user says."""
    if isinstance(content, str):
        conversation.add_user([TextPart(text=content)], param)
        return
    own: Parts = []
    results = 0
    for index, block in enumerate(content or []):
        path = f"{param}[{index}]"
        if not isinstance(block, models.ToolResultBlock):
            own += _part(conversation, block, path)
            continue
        results += 1
        conversation.add_tool_result(
            block.tool_use_id,
            _result_parts(conversation, block, f"{path}.content"),
            f"{path}.content",
            id_param=f"{path}.tool_use_id",
        )
    if own or not results:
        conversation.add_user(own, param)


def _result_parts(conversation: Conversation, block: models.ToolResultBlock, param: str) -> Parts:
    parts = _parts(conversation, block.content, param)
    return [TextPart(text="The tool failed: "), *parts] if block.is_error else parts


def _as_json(value: Any) -> str:
    """No longer than the client wrote it, whatever its language."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _add_assistant(conversation: Conversation, content: Any, param: str) -> None:
    if isinstance(content, str):
        content = [models.TextBlock(type="text", text=content)]
    content = content or []
    calls = [
        ToolCall(id=block.id, name=block.name, arguments=_as_json(block.input))
        for block in content
        if isinstance(block, models.ToolUseBlock)
    ]
    thoughts = [block.thinking for block in content if isinstance(block, models.ThinkingBlock)]
    texts: Parts = [
        TextPart(text=block.text) for block in content if isinstance(block, models.TextBlock)
    ]
    conversation.add_assistant(
        texts,
        param,
        calls=calls,
        calls_param=param,
        reasoning="\n".join(thoughts) or None,
    )


def _parts(conversation: Conversation, content: Any, param: str) -> Parts:
    if isinstance(content, str):
        return [TextPart(text=content)]
    return [
        part
        for index, block in enumerate(content or [])
        for part in _part(conversation, block, f"{param}[{index}]")
    ]


def _part(conversation: Conversation, block: Any, path: str) -> Parts:
    if isinstance(block, models.TextBlock):
        return [TextPart(text=block.text)]
    if isinstance(block, models.DocumentBlock):
        about = [text + "\n" for text in (block.title, block.context) if text]
        pages = _of_source(conversation, block.source, f"{path}.source")
        return [*(TextPart(text=text) for text in about), *pages]
    return _of_source(conversation, block.source, f"{path}.source")


def _of_source(conversation: Conversation, source: Any, path: str) -> Parts:
    if isinstance(source, models.URLSource):
        return [conversation.image(source.url, f"{path}.url")]
    if isinstance(source, models.Base64Source):
        return [conversation.image(source.data, f"{path}.data")]
    if isinstance(source, models.TextSource):
        return [TextPart(text=source.data)]
    return _parts(conversation, source.content, f"{path}.content")


def _tool(tool: models.ClientTool) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=tool.input_schema,
        strict=bool(tool.strict),
    )


def _choice(choice: models.ToolChoice | None) -> Choice:
    if choice is None or choice.type == "auto":
        return Choice()
    if choice.type == "none":
        return Choice("none")
    if choice.type == "any":
        return Choice("required")
    if not choice.name:
        raise InvalidRequest(
            "tool_choice.name: is required with type tool.", param="tool_choice.name"
        )
    return Choice("required", choice.name, [(choice.name, "tool_choice.name")])


def _thinks(body: models.CountTokensRequest) -> bool | None:
    if body.enable_thinking is not None or body.thinking is None:
        return body.enable_thinking
    return body.thinking.type != "disabled"

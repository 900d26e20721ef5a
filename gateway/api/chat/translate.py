"""From a chat completion request to the one record that all dialects are translated into."""

from __future__ import annotations

from gateway.api.chat import models
from gateway.api.chat.messages import add_message
from gateway.api.common.conversation import Conversation, ImageRules
from gateway.api.common.sampling import token_limit
from gateway.api.common.template_options import template_options
from gateway.api.common.tools import Choice, tool_policy
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest
from shared.messages import ResponseFormat, Tool


def to_generation(
    body: models.ChatCompletionRequest, rules: ImageRules, tenant: str
) -> GenerationRequest:
    """Raises InvalidRequest for what only shows when fields are seen together."""
    _check_combinations(body)
    conversation = Conversation(rules)
    for index, message in enumerate(body.messages):
        add_message(conversation, message, f"messages[{index}]")
    continues = conversation.finish("messages")
    min_pixels, max_pixels = body.pixel_bounds()
    return GenerationRequest(
        route="/v1/chat/completions",
        model=body.model or None,
        stream=bool(body.stream),
        messages=conversation.turns,
        images=conversation.images,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        sampling=body.sampling(),
        continue_final_message=continues,
        max_tokens=token_limit(body.max_completion_tokens or body.max_tokens),
        stop=body.stops(),
        choices=body.n or 1,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        response_format=_response_format(body.response_format),
        tool_policy=tool_policy(
            [_tool(tool.function) for tool in body.tools or []],
            _choice(body.tool_choice),
            body.parallel_tool_calls,
        ),
        template_options=template_options(
            body.chat_template_kwargs, body.reasoning_effort, _thinks(body)
        ),
        ignore_eos=bool(body.ignore_eos),
        prediction=_prediction(body.prediction),
        tenant=tenant,
        idle_unload_s=body.ttl,
    )


def _check_combinations(body: models.ChatCompletionRequest) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options: is only allowed when stream is true.", param="stream_options"
        )
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest(
            "top_logprobs: is only allowed when logprobs is true.", param="top_logprobs"
        )
    both = body.max_tokens is not None and body.max_completion_tokens is not None
    if both and body.max_tokens != body.max_completion_tokens:
        raise InvalidRequest(
            "max_tokens: differs from max_completion_tokens, which means the same; send one.",
            param="max_tokens",
        )


def _thinks(body: models.ChatCompletionRequest) -> bool | None:
    if body.enable_thinking is not None or body.thinking is None:
        return body.enable_thinking
    return None if body.thinking.type == "auto" else body.thinking.type != "disabled"


def _prediction(expected: models.Prediction | None) -> str:
    if expected is None:
        return ""
    content = expected.content
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _response_format(wanted: models.ResponseFormat | None) -> ResponseFormat | None:
    if isinstance(wanted, models.JsonObjectFormat):
        return ResponseFormat()
    if isinstance(wanted, models.JsonSchemaFormat):
        form = wanted.json_schema
        return ResponseFormat(schema=form.schema_ or {}, strict=bool(form.strict))
    return None


def _choice(choice: models.ToolChoice | None) -> Choice:
    if isinstance(choice, models.NamedTool):
        name = choice.function.name
        return Choice("required", name, [(name, "tool_choice.function.name")])
    if isinstance(choice, models.AllowedToolsChoice):
        names = [
            (tool.function.name, f"tool_choice.allowed_tools.tools[{index}].function.name")
            for index, tool in enumerate(choice.allowed_tools.tools)
        ]
        return Choice(choice.allowed_tools.mode, names=names)
    return Choice(choice or "auto")


def _tool(function: models.Function) -> Tool:
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {},
        strict=bool(function.strict),
    )

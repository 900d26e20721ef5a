"""From a chat completion request to the one record that all dialects are translated into."""

from __future__ import annotations

from typing import Any

from gateway.api.chat import models
from gateway.api.chat.conversation import Conversation
from gateway.api.sampling import merged_template_options
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest
from shared.messages import ResponseFormat, Tool, ToolPolicy

RESERVED_TEMPLATE_OPTIONS = frozenset(
    {
        "messages",
        "tools",
        "documents",
        "conversation",
        "chat_template",
        "tokenize",
        "add_generation_prompt",
        "continue_final_message",
        "num_images",
        "num_audios",
        "processor",
        "config",
        "prompt",
        "role",
    }
)


def to_generation(
    body: models.ChatCompletionRequest, *, tenant: str, max_images: int, vision_only: bool
) -> GenerationRequest:
    """Raises InvalidRequest for what only shows when fields are seen together."""
    _check_combinations(body)
    conversation = Conversation(max_images)
    for index, message in enumerate(body.messages):
        conversation.add(message, f"messages[{index}]")
    continues = conversation.finish()
    if vision_only and not conversation.images:
        raise InvalidRequest(
            "This server answers only requests with an image (--vision-only); "
            "add an image_url part to a user message.",
            param="messages",
            code="text_only_not_supported",
        )
    return GenerationRequest(
        model=body.model or None,
        stream=bool(body.stream),
        messages=conversation.turns,
        images=conversation.images,
        sampling=body.sampling(),
        continue_final_message=continues,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=body.stops(),
        choices=body.n or 1,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        response_format=response_format(body.response_format),
        tool_policy=tool_policy(body.tools, body.tool_choice, body.parallel_tool_calls),
        template_options=_template_options(body),
        ignore_eos=bool(body.ignore_eos),
        tenant=tenant,
    )


def _check_combinations(body: models.ChatCompletionRequest) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options: is only allowed when stream is true.", param="stream_options"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest(
            "top_logprobs: is only allowed when logprobs is true.", param="top_logprobs"
        )
    both = body.max_tokens is not None and body.max_completion_tokens is not None
    if both and body.max_tokens != body.max_completion_tokens:
        raise InvalidRequest(
            "max_tokens: differs from max_completion_tokens, which means the same; send one.",
            param="max_tokens",
        )


def response_format(wanted: models.ResponseFormat | None) -> ResponseFormat | None:
    if isinstance(wanted, models.JsonObjectFormat):
        return ResponseFormat()
    if isinstance(wanted, models.JsonSchemaFormat):
        return ResponseFormat(schema=wanted.json_schema.schema_ or {})
    return None


def tool_policy(
    tools: list[models.FunctionTool] | None,
    choice: models.ToolChoice | None,
    parallel: bool | None,
) -> ToolPolicy | None:
    """Raises InvalidRequest when the choice names or needs a tool that is not there."""
    available = {tool.function.name: _tool(tool.function) for tool in tools or []}
    if len(available) < len(tools or []):
        raise InvalidRequest("tools: two functions have the same name.", param="tools")
    if choice is None or choice in ("none", "auto"):
        if not available or choice == "none":
            return None
        return ToolPolicy(tools=list(available.values()), parallel=parallel is not False)
    if not available:
        raise InvalidRequest("tool_choice: there are no tools to choose from.", param="tool_choice")
    mode, name, allowed = "required", None, list(available)
    if isinstance(choice, models.NamedTool):
        name = choice.function.name
        _check_known(name, available, "tool_choice.function.name")
    elif isinstance(choice, models.AllowedToolsChoice):
        mode = choice.allowed_tools.mode
        allowed = [tool.function.name for tool in choice.allowed_tools.tools]
        for index, wanted in enumerate(allowed):
            path = f"tool_choice.allowed_tools.tools[{index}].function.name"
            _check_known(wanted, available, path)
    return ToolPolicy(
        tools=[tool for tool_name, tool in available.items() if tool_name in allowed],
        mode="required" if mode == "required" else "auto",
        name=name,
        parallel=parallel is not False,
    )


def _check_known(name: str, available: dict[str, Tool], param: str) -> None:
    if name not in available:
        raise InvalidRequest(f"{param}: tools has no function {name!r}.", param=param)


def _tool(function: models.Function) -> Tool:
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {},
        strict=bool(function.strict),
    )


def _template_options(body: models.ChatCompletionRequest) -> dict[str, Any]:
    options = merged_template_options(
        body.chat_template_kwargs, RESERVED_TEMPLATE_OPTIONS, "chat_template_kwargs"
    )
    if body.reasoning_effort is not None:
        options["reasoning_effort"] = body.reasoning_effort
        if body.reasoning_effort == "none":
            options.setdefault("enable_thinking", False)
    if body.enable_thinking is not None:
        options["enable_thinking"] = body.enable_thinking
    return options

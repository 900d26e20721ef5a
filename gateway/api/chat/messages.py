"""From OpenAI's messages to turns."""

from __future__ import annotations

from typing import Any

from gateway.api.chat import models
from gateway.api.common.conversation import Conversation, Parts
from gateway.api.common.pictures import longest_side_px
from gateway.errors import InvalidRequest
from shared.messages import ImagePart, TextPart, ToolCall


def add_message(conversation: Conversation, message: models.Message, path: str) -> None:
    """Raises InvalidRequest."""
    param = f"{path}.content"
    if isinstance(message, models.AssistantMessage):
        _add_assistant(conversation, message, path)
        return
    parts = _parts(conversation, message.content, param)
    if isinstance(message, models.UserMessage):
        conversation.add_user(parts, param, message.name)
    elif isinstance(message, models.ToolMessage):
        conversation.add_tool_result(
            message.tool_call_id,
            parts,
            param,
            id_param=f"{path}.tool_call_id",
            name=message.name,
        )
    else:
        conversation.add_system(parts, param, message.name)


def _add_assistant(conversation: Conversation, message: models.AssistantMessage, path: str) -> None:
    param = f"{path}.content"
    content = message.refusal if message.content is None else message.content
    conversation.add_assistant(
        _parts(conversation, content, param),
        param,
        calls=[
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or []
        ],
        calls_param=f"{path}.tool_calls",
        reasoning=message.reasoning_content or message.reasoning,
        name=message.name,
    )


def _parts(conversation: Conversation, content: Any, path: str) -> Parts:
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(text=content)]
    return [_part(conversation, part, f"{path}[{index}]") for index, part in enumerate(content)]


def _part(conversation: Conversation, part: models.ContentPart, path: str) -> TextPart | ImagePart:
    if isinstance(part, models.TextContent):
        return TextPart(text=part.text)
    if isinstance(part, models.RefusalContent):
        return TextPart(text=part.refusal)
    if isinstance(part, models.FileContent):
        return _file(conversation, part.file, f"{path}.file.file_data")
    if isinstance(part.image_url, str):
        return conversation.image(part.image_url, f"{path}.image_url")
    side = longest_side_px(part.image_url.detail)
    return conversation.image(part.image_url.url, f"{path}.image_url.url", side)


def _file(conversation: Conversation, file: models.File, param: str) -> ImagePart:
    if file.file_data is None:
        raise InvalidRequest(f"{param}: is required.", param=param)
    return conversation.image(file.file_data, param)

"""From OpenAI's messages to the wire's turns: order, emptiness and places of images are checked.

Every refusal names the field by its path, before any slot is taken or image fetched.
"""

from __future__ import annotations

from typing import Any

from gateway.api.chat import models
from gateway.errors import InvalidRequest
from gateway.generation import ImageSource
from gateway.images.sources import check_source
from shared.messages import ChatMessage, ImagePart, TextPart, ToolCall


class Conversation:
    """The turns as they will be sent, and the images in the order they appear."""

    def __init__(self, max_images: int) -> None:
        self.turns: list[ChatMessage] = []
        self.images: list[ImageSource] = []
        self._max_images = max_images
        self._unanswered: set[str] = set()
        self._calls_param = ""

    def add(self, message: models.Message, path: str) -> None:
        """Append one message. Raises InvalidRequest."""
        if self._unanswered and not isinstance(message, models.ToolMessage):
            self._refuse_unanswered()
        if isinstance(message, models.UserMessage):
            self._add_user(message, path)
        elif isinstance(message, models.AssistantMessage):
            self._add_assistant(message, path)
        elif isinstance(message, models.ToolMessage):
            self._add_tool(message, path)
        else:
            self._add_system(message, path)

    def finish(self) -> bool:
        """Check the end; return whether the last turn is the assistant's, to be continued."""
        if self._unanswered:
            self._refuse_unanswered()
        last = self.turns[-1]
        if last.role != "assistant":
            return False
        if not any(isinstance(part, TextPart) and part.text for part in last.content):
            param = f"messages[{len(self.turns) - 1}].content"
            raise InvalidRequest(
                f"{param}: a last message of the assistant is continued, so it cannot be empty.",
                param=param,
            )
        return True

    def _add_user(self, message: models.UserMessage, path: str) -> None:
        content = self._content(message.content, f"{path}.content", images=True)
        if not any(isinstance(part, ImagePart) or part.text.strip() for part in content):
            raise InvalidRequest(
                f"{path}.content: a user's message cannot be empty.", param=f"{path}.content"
            )
        self.turns.append(ChatMessage(role="user", content=content, name=message.name))

    def _add_system(self, message: models.SystemMessage, path: str) -> None:
        content = self._content(message.content, f"{path}.content")
        self.turns.append(ChatMessage(role="system", content=content, name=message.name))

    def _add_assistant(self, message: models.AssistantMessage, path: str) -> None:
        calls = [
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or []
        ]
        text = message.refusal if message.content is None else message.content
        if text is None and not calls:
            raise InvalidRequest(
                f"{path}.content: is required unless there are tool_calls.", param=f"{path}.content"
            )
        self._unanswered = {call.id for call in calls}
        self._calls_param = f"{path}.tool_calls"
        if len(self._unanswered) < len(calls):
            raise InvalidRequest(
                f"{self._calls_param}: two calls have the same id.", param=self._calls_param
            )
        self.turns.append(
            ChatMessage(
                role="assistant",
                content=[] if text is None else self._content(text, f"{path}.content"),
                name=message.name,
                reasoning=message.reasoning_content or message.reasoning,
                tool_calls=calls,
            )
        )

    def _add_tool(self, message: models.ToolMessage, path: str) -> None:
        if message.tool_call_id not in self._unanswered:
            param = f"{path}.tool_call_id"
            raise InvalidRequest(
                f"{param}: no call of the assistant's message before it has this id.", param=param
            )
        self._unanswered.discard(message.tool_call_id)
        content = self._content(message.content, f"{path}.content")
        self.turns.append(
            ChatMessage(
                role="tool",
                content=content,
                name=message.name,
                tool_call_id=message.tool_call_id,
            )
        )

    def _refuse_unanswered(self) -> None:
        missing = ", ".join(sorted(self._unanswered))
        raise InvalidRequest(
            f"{self._calls_param}: each call must be answered by a tool message right after it; "
            f"missing: {missing}.",
            param=self._calls_param,
        )

    def _content(
        self, content: Any, path: str, *, images: bool = False
    ) -> list[TextPart | ImagePart]:
        if isinstance(content, str):
            return [TextPart(text=content)]
        return [
            self._part(part, f"{path}[{index}]", images=images)
            for index, part in enumerate(content)
        ]

    def _part(self, part: models.ContentPart, path: str, *, images: bool) -> TextPart | ImagePart:
        if isinstance(part, models.TextContent):
            return TextPart(text=part.text)
        if isinstance(part, models.RefusalContent):
            return TextPart(text=part.refusal)
        if not images:
            raise InvalidRequest(f"{path}: images can stand in a user's messages only.", param=path)
        return self._image(part.image_url, f"{path}.image_url")

    def _image(self, image: str | models.ImageURL, path: str) -> ImagePart:
        if isinstance(image, str):
            source = ImageSource(url=image, param=path)
        else:
            source = ImageSource(url=image.url, param=f"{path}.url")
        check_source(source)
        if len(self.images) >= self._max_images:
            raise InvalidRequest(
                f"{source.param}: at most {self._max_images} images are allowed in one request.",
                param=source.param,
            )
        self.images.append(source)
        return ImagePart(index=len(self.images) - 1)

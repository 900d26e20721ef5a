"""The turns of a conversation, checked as they are added, whatever dialect they came in.

Dialects hand in parts and the paths of their fields; order, emptiness and the places of images
are judged here, once. Every refusal names the field, before any slot is taken or image fetched.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidRequest
from gateway.generation import ImageSource
from gateway.images.sources import check_source
from shared.messages import ChatMessage, ImagePart, TextPart, ToolCall

Parts = list[TextPart | ImagePart]


@dataclass(frozen=True)
class ImageRules:
    """What this server asks of the images of every request."""

    max_images: int
    vision_only: bool
    """A request without an image is refused."""


class Conversation:
    """The turns as they will be sent, and the images in the order they appear."""

    def __init__(self, rules: ImageRules) -> None:
        self.turns: list[ChatMessage] = []
        self.images: list[ImageSource] = []
        self._rules = rules
        self._unanswered: set[str] = set()
        self._calls_param = ""
        self._last_param = ""
        self._shown: Parts = []
        """Pictures of tools, until the next turn of the user, or one made for them, shows them: a
        model looks at pictures in a user's turn only."""

    def image(self, url: str, param: str, longest_side_px: int | None = None) -> ImagePart:
        """Register an image and return what stands for it in a user's parts."""
        source = ImageSource(url=url.lstrip(), param=param, longest_side_px=longest_side_px)
        check_source(source)
        most = self._rules.max_images
        if len(self.images) >= most:
            raise InvalidRequest(
                f"{param}: at most {most} images are allowed in one request.",
                param=param,
            )
        self.images.append(source)
        return ImagePart(index=len(self.images) - 1)

    def add_system(self, parts: Parts, param: str, name: str | None = None) -> None:
        self._begin_turn(param)
        self._show_pictures()
        self.turns.append(
            ChatMessage(role="system", content=without_images(parts, param), name=name)
        )

    def add_user(self, parts: Parts, param: str, name: str | None = None) -> None:
        self._begin_turn(param)
        shown, self._shown = self._shown, []
        self.turns.append(ChatMessage(role="user", content=[*shown, *parts], name=name))

    def add_assistant(
        self,
        parts: Parts,
        param: str,
        *,
        calls: list[ToolCall],
        calls_param: str,
        reasoning: str | None = None,
        name: str | None = None,
    ) -> None:
        self._begin_turn(param)
        self._show_pictures()
        self._unanswered = {call.id for call in calls}
        self._calls_param = calls_param
        if len(self._unanswered) < len(calls):
            raise InvalidRequest(f"{calls_param}: two calls have the same id.", param=calls_param)
        self.turns.append(
            ChatMessage(
                role="assistant",
                content=without_images(parts, param),
                name=name,
                reasoning=reasoning,
                tool_calls=calls,
            )
        )

    def add_tool_result(
        self, call_id: str, parts: Parts, param: str, *, id_param: str, name: str | None = None
    ) -> None:
        """Add what a tool answered. Its pictures are shown in the user's turn after all results."""
        if call_id not in self._unanswered:
            raise InvalidRequest(
                f"{id_param}: no call of the assistant's message before it has this id.",
                param=id_param,
            )
        self._unanswered.discard(call_id)
        self._last_param = param
        self._shown += [part for part in parts if isinstance(part, ImagePart)]
        self.turns.append(
            ChatMessage(
                role="tool",
                content=[part for part in parts if isinstance(part, TextPart)],
                name=name,
                tool_call_id=call_id,
            )
        )

    def finish(self, param: str) -> bool:
        """Check the end; return whether the last turn is the assistant's, to be continued.

        Any turn but the last may be empty: clients keep what came to nothing.

        Args:
            param: the field of all messages.
        """
        self._close_calls()
        self._show_pictures()
        if not self.turns:
            raise InvalidRequest(f"{param}: must not be empty.", param=param)
        last = self.turns[-1]
        continues = last.role == "assistant"
        if continues:
            self._check_continued(last)
        elif last.role == "user":
            self._check_asked(last)
        if self._rules.vision_only and not self.images:
            raise InvalidRequest(
                "This server answers only requests with an image (--vision-only); "
                "add one to a user's message.",
                param=param,
                code="text_only_not_supported",
            )
        return continues

    def _check_continued(self, last: ChatMessage) -> None:
        if not any(isinstance(part, TextPart) and part.text for part in last.content):
            raise InvalidRequest(
                f"{self._last_param}: a last message of the assistant is continued, "
                "so it cannot be empty.",
                param=self._last_param,
            )

    def _check_asked(self, last: ChatMessage) -> None:
        if not any(isinstance(part, ImagePart) or part.text.strip() for part in last.content):
            raise InvalidRequest(
                f"{self._last_param}: the last message cannot be empty.", param=self._last_param
            )

    def _begin_turn(self, param: str) -> None:
        self._close_calls()
        self._last_param = param

    def _show_pictures(self) -> None:
        if self._shown:
            shown, self._shown = self._shown, []
            self.turns.append(ChatMessage(role="user", content=shown))

    def _close_calls(self) -> None:
        if not self._unanswered:
            return
        missing = ", ".join(sorted(self._unanswered))
        raise InvalidRequest(
            f"{self._calls_param}: each call must be answered by its result right after it; "
            f"missing: {missing}.",
            param=self._calls_param,
        )


def without_images(parts: Parts, param: str) -> Parts:
    for index, part in enumerate(parts):
        if isinstance(part, ImagePart):
            where = f"{param}[{index}]"
            raise InvalidRequest(
                f"{where}: images can stand in a user's messages and in tools' results only.",
                param=where,
            )
    return parts

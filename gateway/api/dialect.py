"""The dialects: what is each one's own, as one record, and the table of all of them.

What they have in common is `endpoint.py`. Another dialect is a folder with its body's model, its
translation and its renderer, and an entry here: that gives it its route, its place in
`/openapi.json` and its parameters in `/v1/capabilities`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.api.chat.models import ChatCompletionRequest
from gateway.api.chat.render import ChatRenderer
from gateway.api.chat.translate import to_generation as from_chat
from gateway.api.common.conversation import ImageRules
from gateway.api.common.parameters import RequestPart
from gateway.api.common.render import Renderer
from gateway.api.completions.models import CompletionRequest
from gateway.api.completions.render import CompletionRenderer
from gateway.api.completions.translate import to_generation as from_completion
from gateway.api.messages.models import CountTokensRequest, MessagesRequest
from gateway.api.messages.render import MessagesRenderer, token_count
from gateway.api.messages.translate import to_counting
from gateway.api.messages.translate import to_generation as from_messages
from gateway.api.responses.models import ResponsesRequest
from gateway.api.responses.render import ResponsesRenderer
from gateway.api.responses.translate import to_generation as from_responses
from gateway.generation import GenerationRequest

Body = TypeVar("Body", bound=RequestPart)


@dataclass(frozen=True)
class Dialect(Generic[Body]):
    """One API by which text is asked for; exactly one of `renderer` and `count` is set."""

    path: str
    name: str
    """Of its parameters in `/v1/capabilities`; the first word is its group in the documents."""
    operation: str
    description: str
    body: type[Body]
    translate: Callable[[Body, ImageRules, str], GenerationRequest]
    """From a body, this server's rules and the tenant; raises InvalidRequest."""
    renderer: Callable[[Body, GenerationRequest], Renderer] | None = None
    count: Callable[[int], dict[str, Any]] | None = None
    """Nothing is generated: the answer is made of the number of the prompt's tokens."""


DIALECTS: tuple[Dialect[Any], ...] = (
    Dialect(
        path="/v1/chat/completions",
        name="chat.completions",
        operation="create_chat_completion",
        description="Answer a conversation about text and images.",
        body=ChatCompletionRequest,
        translate=from_chat,
        renderer=ChatRenderer,
    ),
    Dialect(
        path="/v1/completions",
        name="completions",
        operation="create_completion",
        description="Continue a text.",
        body=CompletionRequest,
        translate=from_completion,
        renderer=CompletionRenderer,
    ),
    Dialect(
        path="/v1/responses",
        name="responses",
        operation="create_response",
        description="Answer a conversation, as OpenAI's newer clients speak.",
        body=ResponsesRequest,
        translate=from_responses,
        renderer=lambda body, _: ResponsesRenderer(body),
    ),
    Dialect(
        path="/v1/messages",
        name="messages",
        operation="create_message",
        description="Answer a conversation, as Anthropic's clients speak.",
        body=MessagesRequest,
        translate=from_messages,
        renderer=lambda _, __: MessagesRenderer(),
    ),
    Dialect(
        path="/v1/messages/count_tokens",
        name="messages.count_tokens",
        operation="count_tokens",
        description="Count the tokens of a prompt, images included, as the worker would see it.",
        body=CountTokensRequest,
        translate=to_counting,
        count=token_count,
    ),
)

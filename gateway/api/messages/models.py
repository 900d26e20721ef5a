"""The requests of `POST /v1/messages` and `/v1/messages/count_tokens`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.common.parameters import (
    KINDS_FOLLOW,
    TAG,
    UNKNOWN_TAG,
    UNSUPPORTED,
    FreeObject,
    ListOf,
    MessagePart,
    RequestPart,
    honoured,
    ignored,
    refused,
    string_or_list,
    tag_by_key,
)
from gateway.api.common.pictures import PictureSizes
from gateway.api.common.sampling import TokenLimit, TokenSampling, WholeNumber

MAX_MESSAGES = 4096
MAX_TOOLS = 128
TOOL_NAME = r"^[a-zA-Z0-9_.:-]{1,128}$"
CACHED = "prefixes are cached anyway"


def _text_or(items: Any) -> Any:
    """Return the union of a string and a list of `items`."""
    return Annotated[
        Annotated[str, Tag(TAG + "string")] | Annotated[ListOf[items], Tag(TAG + "list")],
        Discriminator(
            string_or_list,
            custom_error_type="content_type",
            custom_error_message="must be a string or a list of blocks",
        ),
    ]


class TextBlock(MessagePart):
    type: Literal["text"]
    text: str
    cache_control: Any = ignored(CACHED)
    citations: Any = ignored("citations of an earlier answer")


class Base64Source(MessagePart):
    type: Literal["base64"]
    media_type: str | None = ignored("the file itself tells")
    data: str = Field(min_length=1)


class URLSource(MessagePart):
    type: Literal["url"]
    url: str = Field(min_length=1)


class ImageBlock(MessagePart):
    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source, Tag(TAG + "base64")] | Annotated[URLSource, Tag(TAG + "url")],
        tag_by_key("type", ("base64", "url")),
    ]
    cache_control: Any = ignored(CACHED)
    transformations: Any = refused("images are used as the model's own processor asks for")


class TextSource(MessagePart):
    type: Literal["text"]
    data: str
    media_type: str | None = ignored("it is text")


class ContentSource(MessagePart):
    type: Literal["content"]
    content: _text_or(  # type: ignore[valid-type]
        Annotated[
            Annotated[TextBlock, Tag(TAG + "text")] | Annotated[ImageBlock, Tag(TAG + "image")],
            tag_by_key("type", ("text", "image")),
        ]
    )


class DocumentBlock(MessagePart):
    """A text, or a PDF, whose pages are shown as pictures."""

    type: Literal["document"]
    source: Annotated[
        Annotated[Base64Source, Tag(TAG + "base64")]
        | Annotated[URLSource, Tag(TAG + "url")]
        | Annotated[TextSource, Tag(TAG + "text")]
        | Annotated[ContentSource, Tag(TAG + "content")],
        tag_by_key("type", ("base64", "url", "text", "content")),
    ]
    title: str | None = None
    context: str | None = None
    cache_control: Any = ignored(CACHED)
    citations: Any = refused("answers carry no citations", {"enabled": False}, {})


class ToolUseBlock(MessagePart):
    type: Literal["tool_use"]
    id: str = Field(min_length=1)
    name: str = Field(pattern=TOOL_NAME)
    input: FreeObject
    cache_control: Any = ignored(CACHED)
    caller: Any = ignored("only a client calls tools")


ResultPart = Annotated[
    Annotated[TextBlock, Tag(TAG + "text")]
    | Annotated[ImageBlock, Tag(TAG + "image")]
    | Annotated[DocumentBlock, Tag(TAG + "document")],
    tag_by_key("type", ("text", "image", "document")),
]


class ToolResultBlock(MessagePart):
    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1)
    content: _text_or(ResultPart) | None = None  # type: ignore[valid-type]
    is_error: bool | None = None
    cache_control: Any = ignored(CACHED)


class ThinkingBlock(MessagePart):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = ignored("thoughts are not signed")


UserBlock = Annotated[
    Annotated[TextBlock, Tag(TAG + "text")]
    | Annotated[ImageBlock, Tag(TAG + "image")]
    | Annotated[DocumentBlock, Tag(TAG + "document")]
    | Annotated[ToolResultBlock, Tag(TAG + "tool_result")],
    tag_by_key("type", ("text", "image", "document", "tool_result")),
]

AssistantBlock = Annotated[
    Annotated[TextBlock, Tag(TAG + "text")]
    | Annotated[ThinkingBlock, Tag(TAG + "thinking")]
    | Annotated[ToolUseBlock, Tag(TAG + "tool_use")],
    tag_by_key("type", ("text", "thinking", "tool_use")),
]


class UserMessage(MessagePart):
    role: Literal["user"]
    content: _text_or(UserBlock) | None  # type: ignore[valid-type]


class AssistantMessage(MessagePart):
    role: Literal["assistant"]
    content: _text_or(AssistantBlock) | None  # type: ignore[valid-type]


class SystemMessage(MessagePart):
    role: Literal["system"]
    content: _text_or(TextBlock) | None  # type: ignore[valid-type]


Message = Annotated[
    Annotated[UserMessage, Tag(TAG + "user")]
    | Annotated[AssistantMessage, Tag(TAG + "assistant")]
    | Annotated[SystemMessage, Tag(TAG + "system")],
    tag_by_key("role", ("user", "assistant", "system")),
]


class ClientTool(RequestPart):
    """A tool that the client runs itself; Anthropic's own kinds are refused by their type."""

    name: str = Field(pattern=TOOL_NAME)
    input_schema: FreeObject
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None
    cache_control: Any = ignored(CACHED)
    eager_input_streaming: bool | None = ignored("arguments are streamed as they come")
    allowed_callers: Any = refused("only the model calls tools", ["direct"])
    defer_loading: Any = refused("all tools are loaded", False)
    input_examples: Any = refused("put examples into the description")


def _kind_of_tool(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return TAG + "custom" if value.get("type") in (None, "custom") else None


AnyTool = Annotated[
    Annotated[ClientTool, Tag(TAG + "custom")],
    Discriminator(
        _kind_of_tool,
        custom_error_type=UNKNOWN_TAG + "type",
        custom_error_message=f"must be an object whose type is{KINDS_FOLLOW}custom",
    ),
]


class ClearThinking(RequestPart):
    """Asks for what happens anyway, when it keeps all."""

    type: Literal["clear_thinking_20251015"]
    keep: Any

    @model_validator(mode="after")
    def _keep_all(self) -> ClearThinking:
        if self.keep not in ("all", {"type": "all"}):
            meaning = "must be all: the thoughts that a client sends back are all kept"
            raise PydanticCustomError(
                UNSUPPORTED, "{meaning}", {"field": "keep", "meaning": meaning}
            )
        return self


class ContextManagement(RequestPart):
    edits: (
        ListOf[
            Annotated[
                Annotated[ClearThinking, Tag(TAG + "clear_thinking_20251015")],
                tag_by_key("type", ("clear_thinking_20251015",)),
            ]
        ]
        | None
    ) = None


class ToolChoice(RequestPart):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(RequestPart):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: WholeNumber | None = ignored("max_tokens bounds thoughts and answer together")
    display: Any = ignored("thoughts are shown as they are")


class JsonFormat(RequestPart):
    model_config = ConfigDict(populate_by_name=True)

    type: Literal["json_schema"]
    schema_: FreeObject = Field(alias="schema")


class OutputConfig(RequestPart):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class CountTokensRequest(TokenSampling, PictureSizes):
    """What both requests share: everything that becomes the prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "demo",
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                }
            ]
        }
    )

    messages: ListOf[Message] = honoured(
        "the conversation; a last message of the assistant is continued",
        default=...,
        min_length=1,
        max_length=MAX_MESSAGES,
    )
    model: str | None = honoured("an id of /v1/models; may be left out when one model is served")
    system: _text_or(TextBlock) | None = honoured("the system prompt")  # type: ignore[valid-type]
    tools: ListOf[AnyTool] | None = honoured("functions the model may call", max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = honoured("whether and which function must be called")
    thinking: Thinking | None = honoured("switches the model's thinking on or off")
    context_management: ContextManagement | None = honoured(
        "an edit that keeps all thoughts, which is what happens anyway"
    )
    output_config: OutputConfig | None = honoured("effort, and a JSON schema for the answer")
    enable_thinking: bool | None = honoured("given to the model's chat template")
    chat_template_kwargs: FreeObject | None = honoured(
        "more variables for the model's chat template"
    )

    cache_control: Any = ignored(CACHED)
    speed: str | None = ignored("there is one speed")
    user_profile_id: str | None = ignored("not used")
    workspace_id: str | None = ignored("not used")


class MessagesRequest(CountTokensRequest):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "demo",
                    "max_tokens": 100,
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                }
            ]
        }
    )

    max_tokens: TokenLimit = honoured("longest answer, in tokens; -1: no limit", default=...)
    stream: bool | None = honoured("send the answer as server-sent events")
    stop_sequences: ListOf[str] | None = honoured("up to 16 texts that end the answer")

    metadata: dict[str, Any] | None = ignored("an end user's id; not used")
    service_tier: str | None = ignored("there is one tier")
    diagnostics: Any = ignored("nothing more is reported")

    compaction: Any = refused("a conversation is never cut silently")
    container: Any = refused("there are no containers")
    fallbacks: Any = refused("the model that is named answers, or nobody", [])
    inference_geo: Any = refused("it runs where this server runs")
    mcp_servers: Any = refused("only the client calls tools", [])

"""The request of `POST /v1/chat/completions`, field by field of OpenAI's specification."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from gateway.api.common.parameters import (
    TAG,
    FreeObject,
    ListOf,
    MapOf,
    MessagePart,
    RequestPart,
    honoured,
    ignored,
    refused,
    string_or_list,
    tag_by_key,
)
from gateway.api.common.pictures import Detail, PictureSizes, detail_field, of_all_images
from gateway.api.common.sampling import SamplingParameters, TokenLimit, WholeNumber

MAX_MESSAGES = 4096
MAX_TOOLS = 128
EXAMPLE_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PQQkAAAgAset"
    "fWiP4FgYrsKZeS0BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEDgsqnc8OJg6Ln3AAAAA"
    "ElFTkSuQmCC"
)
"""A red square: an example that can be sent as it is shown."""

FUNCTION_NAME = r"^[a-zA-Z0-9_.:-]{1,128}$"

Verbosity = Literal["low", "medium", "high"]
WITHOUT_VERBOSITY = "without effect; ask for short or long answers in words"
NOT_STORED = "without effect; no answer is ever stored"

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ImageURL(MessagePart):
    url: str = Field(min_length=1)
    detail: Detail | None = detail_field()


class TextContent(MessagePart):
    type: Literal["text"]
    text: str
    cache_control: Any = ignored("prefixes are cached anyway")
    prompt_cache_breakpoint: Any = ignored("prefixes are cached anyway")


class ImageContent(MessagePart):
    type: Literal["image_url"]
    image_url: Annotated[
        Annotated[str, Tag(TAG + "string"), Field(min_length=1)]
        | Annotated[ImageURL, Tag(TAG + "object")],
        Discriminator(lambda value: TAG + ("string" if isinstance(value, str) else "object")),
    ]
    cache_control: Any = ignored("prefixes are cached anyway")
    prompt_cache_breakpoint: Any = ignored("prefixes are cached anyway")
    min_pixels: Any = of_all_images()
    max_pixels: Any = of_all_images()


class File(MessagePart):
    file_data: str | None = Field(default=None, min_length=1)
    filename: str | None = ignored("the file itself tells what it is")
    file_id: Any = refused("there are no stored files; send file_data")


class FileContent(MessagePart):
    """A PDF, whose pages are shown as pictures, or a picture."""

    type: Literal["file"]
    file: File


class RefusalContent(MessagePart):
    type: Literal["refusal"]
    refusal: str


ContentPart = Annotated[
    Annotated[TextContent, Tag(TAG + "text")]
    | Annotated[ImageContent, Tag(TAG + "image_url")]
    | Annotated[FileContent, Tag(TAG + "file")]
    | Annotated[RefusalContent, Tag(TAG + "refusal")],
    tag_by_key("type", ("text", "image_url", "file", "refusal")),
]

Content = Annotated[
    Annotated[str, Tag(TAG + "string")] | Annotated[ListOf[ContentPart], Tag(TAG + "list")],
    Discriminator(
        string_or_list,
        custom_error_type="content_type",
        custom_error_message="must be a string or a list of content parts",
    ),
]


class FunctionCall(MessagePart):
    name: str = Field(pattern=FUNCTION_NAME)
    arguments: str


class ToolCall(MessagePart):
    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = ignored("as streams number them")


class SystemMessage(MessagePart):
    role: Literal["system", "developer"]
    content: Content | None
    name: str | None = None


class UserMessage(MessagePart):
    role: Literal["user"]
    content: Content | None
    name: str | None = None


class AssistantMessage(MessagePart):
    """As a server answered it: the fields it left empty come back as null."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: ListOf[ToolCall] | None = None
    annotations: Any = ignored("citations of an earlier answer")
    audio: Any = refused("audio is not supported")
    function_call: Any = refused("function_call is out of date; use tool_calls")


class ToolMessage(MessagePart):
    role: Literal["tool"]
    content: Content | None
    tool_call_id: str = Field(min_length=1)
    name: str | None = None


Message = Annotated[
    Annotated[SystemMessage, Tag(TAG + "system")]
    | Annotated[SystemMessage, Tag(TAG + "developer")]
    | Annotated[UserMessage, Tag(TAG + "user")]
    | Annotated[AssistantMessage, Tag(TAG + "assistant")]
    | Annotated[ToolMessage, Tag(TAG + "tool")],
    tag_by_key("role", ("system", "developer", "user", "assistant", "tool")),
]


class Function(RequestPart):
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: FreeObject | None = None
    strict: bool | None = None


class FunctionTool(RequestPart):
    type: Literal["function"]
    function: Function
    cache_control: Any = ignored("prefixes are cached anyway")


class FunctionName(RequestPart):
    name: str = Field(pattern=FUNCTION_NAME)


class NamedTool(RequestPart):
    type: Literal["function"]
    function: FunctionName


class AllowedTools(RequestPart):
    mode: Literal["auto", "required"]
    tools: ListOf[NamedTool] = Field(min_length=1)


class AllowedToolsChoice(RequestPart):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _kind_of_tool_choice(value: Any) -> str | None:
    if isinstance(value, str):
        return TAG + "mode"
    kind = value.get("type") if isinstance(value, dict) else None
    return TAG + str(kind) if kind in ("function", "allowed_tools") else None


WORD_OR_TOOLS = Discriminator(
    _kind_of_tool_choice,
    custom_error_type="tool_choice",
    custom_error_message="must be none, auto, required, or an object of type function "
    "or allowed_tools",
)
"""Tells the forms of a `tool_choice` apart: members tagged mode, function, allowed_tools."""

ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(TAG + "mode")]
    | Annotated[NamedTool, Tag(TAG + "function")]
    | Annotated[AllowedToolsChoice, Tag(TAG + "allowed_tools")],
    WORD_OR_TOOLS,
]


class Prediction(RequestPart):
    type: Literal["content"]
    content: Annotated[
        Annotated[str, Tag(TAG + "string")] | Annotated[ListOf[TextContent], Tag(TAG + "list")],
        Discriminator(
            string_or_list,
            custom_error_type="content_type",
            custom_error_message="must be a string or a list of text parts",
        ),
    ]


class TextFormat(RequestPart):
    type: Literal["text"]


class JsonObjectFormat(RequestPart):
    type: Literal["json_object"]


class JsonSchema(RequestPart):
    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: FreeObject | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(RequestPart):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag(TAG + "text")]
    | Annotated[JsonObjectFormat, Tag(TAG + "json_object")]
    | Annotated[JsonSchemaFormat, Tag(TAG + "json_schema")],
    tag_by_key("type", ("text", "json_object", "json_schema")),
]


class Thinking(RequestPart):
    """With auto the model's template decides, as where nothing is said."""

    type: Literal["enabled", "disabled", "auto", "adaptive"]
    budget_tokens: WholeNumber | None = ignored("max_tokens bounds thoughts and answer together")
    display: Any = ignored("thoughts are shown as they are")


class StreamOptions(RequestPart):
    include_usage: bool | None = None
    include_obfuscation: bool | None = ignored("no padding is sent")


class ChatCompletionRequest(SamplingParameters, PictureSizes):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "demo",
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "text", "text": "What is in this image?"},
                                {
                                    "type": "image_url",
                                    "image_url": {"url": EXAMPLE_PICTURE},
                                },
                            ],
                        }
                    ],
                    "max_tokens": 100,
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
    stream: bool | None = honoured("send the answer as server-sent events")
    stream_options: StreamOptions | None = honoured("include_usage adds a last chunk with usage")
    max_completion_tokens: TokenLimit | None = honoured("longest answer, in tokens; -1: no limit")
    max_tokens: TokenLimit | None = honoured("older name of max_completion_tokens")
    logprobs: bool | None = honoured("return the log probability of each token")
    top_logprobs: WholeNumber | None = honoured("and of this many likeliest ones", ge=0, le=20)
    response_format: ResponseFormat | None = honoured("text, any JSON object, or a JSON schema")
    tools: ListOf[FunctionTool] | None = honoured(
        "functions the model may call", max_length=MAX_TOOLS
    )
    tool_choice: ToolChoice | None = honoured("whether and which function must be called")
    parallel_tool_calls: bool | None = honoured("whether several calls may come in one answer")
    prediction: Prediction | None = honoured(
        "what is expected to be answered; the same answer comes faster where the worker's "
        "--speculate allows it"
    )
    reasoning_effort: ReasoningEffort | None = honoured(
        "given to the model's chat template; none switches thinking off"
    )
    enable_thinking: bool | None = honoured("given to the model's chat template")
    thinking: Thinking | None = honoured(
        "enable_thinking, as clients of GLM, DeepSeek, Kimi, Doubao and Claude say"
    )
    chat_template_kwargs: FreeObject | None = honoured(
        "more variables for the model's chat template"
    )

    metadata: MapOf[str] | None = ignored("labels for stored answers; nothing is stored")
    prompt_cache_key: str | None = ignored("prefixes are cached anyway")
    prompt_cache_options: dict[str, Any] | None = ignored("prefixes are cached anyway")
    prompt_cache_retention: str | None = ignored("prefixes are cached anyway")
    safety_identifier: str | None = ignored("an end user's id; not used")
    service_tier: str | None = ignored("there is one tier")
    store: bool | None = ignored(NOT_STORED)
    verbosity: Verbosity | None = ignored(WITHOUT_VERBOSITY)

    audio: Any = refused("audio output is not supported")
    function_call: Any = refused("function_call is out of date; use tool_choice")
    functions: Any = refused("functions is out of date; use tools", [])
    modalities: Any = refused("only text can be produced", ["text"])
    moderation: Any = refused("there is no moderation service")
    web_search_options: Any = refused("there is no web search")

"""The request of `POST /v1/responses`, field by field of OpenAI's specification."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from gateway.api.chat.models import (
    FUNCTION_NAME,
    MAX_MESSAGES,
    MAX_TOOLS,
    NOT_STORED,
    WITHOUT_VERBOSITY,
    ReasoningEffort,
    Verbosity,
)
from gateway.api.common.parameters import (
    KINDS_FOLLOW,
    TAG,
    UNKNOWN_TAG,
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
from gateway.api.common.pictures import Detail, PictureSizes, detail_field
from gateway.api.common.sampling import TokenLimit, TokenSampling, WholeNumber
from gateway.api.responses.tools import AnyTool, ToolChoice

CACHED = "prefixes are cached anyway"
NO_STATE = "nothing is stored; send the whole conversation as input"


class InputText(MessagePart):
    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: Any = ignored(CACHED)


class OutputText(MessagePart):
    type: Literal["output_text"]
    text: str
    annotations: Any = ignored("citations of an earlier answer")
    logprobs: Any = ignored("of an earlier answer")


class Refusal(MessagePart):
    type: Literal["refusal"]
    refusal: str


class InputImage(MessagePart):
    type: Literal["input_image"]
    image_url: str = Field(min_length=1)
    detail: Detail | None = detail_field()
    file_id: Any = refused("there are no stored files; send image_url")
    prompt_cache_breakpoint: Any = ignored(CACHED)


class InputFile(MessagePart):
    """A PDF, whose pages are shown as pictures, or a picture; `file_data` or `file_url`."""

    type: Literal["input_file"]
    file_data: str | None = Field(default=None, min_length=1)
    file_url: str | None = Field(default=None, min_length=1)
    filename: str | None = ignored("the file itself tells what it is")
    detail: Detail | None = detail_field()
    file_id: Any = refused("there are no stored files; send file_data or file_url")
    prompt_cache_breakpoint: Any = ignored(CACHED)


ContentPart = Annotated[
    Annotated[InputText, Tag(TAG + "input_text")]
    | Annotated[InputImage, Tag(TAG + "input_image")]
    | Annotated[InputFile, Tag(TAG + "input_file")]
    | Annotated[OutputText, Tag(TAG + "output_text")]
    | Annotated[Refusal, Tag(TAG + "refusal")],
    tag_by_key("type", ("input_text", "input_image", "input_file", "output_text", "refusal")),
]

Content = Annotated[
    Annotated[str, Tag(TAG + "string")] | Annotated[ListOf[ContentPart], Tag(TAG + "list")],
    Discriminator(
        string_or_list,
        custom_error_type="content_type",
        custom_error_message="must be a string or a list of content parts",
    ),
]


class Message(MessagePart):
    role: Literal["user", "assistant", "system", "developer"]
    content: Content | None
    type: Literal["message"] | None = None
    id: str | None = ignored("of an earlier answer")
    status: str | None = ignored("of an earlier answer")
    phase: str | None = ignored("of an earlier answer")


class FunctionCall(MessagePart):
    type: Literal["function_call"]
    call_id: str = Field(min_length=1)
    name: str = Field(pattern=FUNCTION_NAME)
    arguments: str
    namespace: str | None = Field(None, pattern=FUNCTION_NAME)
    id: str | None = ignored("of an earlier answer")
    status: str | None = ignored("of an earlier answer")
    caller: Any = ignored("only a client calls tools")


class FunctionCallOutput(MessagePart):
    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1)
    output: Content | None
    id: str | None = ignored("not used")
    name: str | None = None
    namespace: str | None = None
    status: str | None = ignored("not used")
    caller: Any = ignored("only a client calls tools")


class SummaryText(MessagePart):
    type: Literal["summary_text"]
    text: str


class ReasoningText(MessagePart):
    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(MessagePart):
    type: Literal["reasoning"]
    summary: ListOf[SummaryText] | None = None
    content: ListOf[ReasoningText] | None = None
    id: str | None = ignored("of an earlier answer")
    status: str | None = ignored("of an earlier answer")
    encrypted_content: Any = refused("thoughts are not encrypted; send them as content")


class ItemReference(MessagePart):
    """An item by its id alone, which is refused."""

    type: Literal["item_reference"] | None = None
    id: str


def _kind_of_item(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        kind = "item_reference" if "id" in value and "role" not in value else "message"
    return TAG + kind if kind in (*KINDS, "item_reference") else None


KINDS = ("message", "function_call", "function_call_output", "reasoning")

Item = Annotated[
    Annotated[Message, Tag(TAG + "message")]
    | Annotated[FunctionCall, Tag(TAG + "function_call")]
    | Annotated[FunctionCallOutput, Tag(TAG + "function_call_output")]
    | Annotated[ReasoningItem, Tag(TAG + "reasoning")]
    | Annotated[ItemReference, Tag(TAG + "item_reference")],
    Discriminator(
        _kind_of_item,
        custom_error_type=UNKNOWN_TAG + "type",
        custom_error_message=f"must be an object whose type is{KINDS_FOLLOW}{', '.join(KINDS)}",
    ),
]

Input = Annotated[
    Annotated[str, Tag(TAG + "string")]
    | Annotated[ListOf[Item], Field(min_length=1, max_length=MAX_MESSAGES), Tag(TAG + "list")],
    Discriminator(
        string_or_list,
        custom_error_type="input_type",
        custom_error_message="must be a string or a list of items",
    ),
]


class TextFormat(RequestPart):
    type: Literal["text"]


class JsonObjectFormat(RequestPart):
    type: Literal["json_object"]


class JsonSchemaFormat(RequestPart):
    model_config = ConfigDict(populate_by_name=True)

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: FreeObject = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(RequestPart):
    format: (
        Annotated[
            Annotated[TextFormat, Tag(TAG + "text")]
            | Annotated[JsonObjectFormat, Tag(TAG + "json_object")]
            | Annotated[JsonSchemaFormat, Tag(TAG + "json_schema")],
            tag_by_key("type", ("text", "json_object", "json_schema")),
        ]
        | None
    ) = None
    verbosity: Verbosity | None = ignored(WITHOUT_VERBOSITY)


class Reasoning(RequestPart):
    effort: ReasoningEffort | None = None
    summary: str | None = ignored("thoughts are shown whole")
    generate_summary: str | None = ignored("thoughts are shown whole")
    context: str | None = ignored("the model's template decides which thoughts it sees")
    mode: Any = refused("there is one mode", "standard")


class StreamOptions(RequestPart):
    include_obfuscation: bool | None = ignored("no padding is sent")


class ResponsesRequest(TokenSampling, PictureSizes):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "demo", "input": "What is the capital of France?"}]
        }
    )

    input: Input = honoured("the conversation, as one text or as items", default=...)
    instructions: str | None = honoured("the system prompt")
    model: str | None = honoured("an id of /v1/models; may be left out when one model is served")
    stream: bool | None = honoured("send the answer as server-sent events")
    stream_options: StreamOptions | None = ignored("no padding is sent")
    max_output_tokens: TokenLimit | None = honoured("longest answer, in tokens; -1: no limit")
    text: TextConfig | None = honoured("text, any JSON object, or a JSON schema")
    tools: ListOf[AnyTool] | None = honoured(
        "functions the model may call, also in namespaces; web_search only where it asks for none "
        "(external_web_access: false)",
        max_length=MAX_TOOLS,
    )
    tool_choice: ToolChoice | None = honoured("whether and which function must be called")
    parallel_tool_calls: bool | None = honoured("whether several calls may come in one answer")
    reasoning: Reasoning | None = honoured(
        "effort is given to the model's chat template; none switches thinking off"
    )
    top_logprobs: WholeNumber | None = honoured(
        "log probabilities of likeliest tokens", ge=0, le=20
    )
    include: ListOf[str] | None = honoured("message.output_text.logprobs adds log probabilities")
    enable_thinking: bool | None = honoured("given to the model's chat template")
    chat_template_kwargs: FreeObject | None = honoured(
        "more variables for the model's chat template"
    )

    client_metadata: Any = ignored("what Codex says of itself; not used")
    max_tool_calls: WholeNumber | None = ignored(
        "bounds built-in tools, of which there are none", ge=1
    )
    metadata: MapOf[str] | None = ignored("labels, which the answer repeats")
    prompt_cache_key: str | None = ignored(CACHED)
    prompt_cache_options: dict[str, Any] | None = ignored(CACHED)
    prompt_cache_retention: str | None = ignored(CACHED)
    safety_identifier: str | None = ignored("an end user's id; not used")
    service_tier: str | None = ignored("there is one tier")
    store: bool | None = ignored(NOT_STORED)
    user: str | None = ignored("an end user's id; not used")

    access_programs: Any = refused("there are no access programs")
    background: Any = refused("answers are not stored, so they cannot come later", False)
    background_options: Any = refused("answers are not stored, so they cannot come later")
    context_management: Any = refused(NO_STATE)
    conversation: Any = refused(NO_STATE)
    image: Any = refused("images are used as the model's own processor asks for")
    moderation: Any = refused("there is no moderation service")
    previous_response_id: Any = refused(NO_STATE)
    prompt: Any = refused("there are no stored prompts")
    truncation: Any = refused("a conversation is never cut silently", "disabled")

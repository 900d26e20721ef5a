"""The tools of a response's request: which kinds there are, and what a model is told of them.

A model knows functions only. Those of a namespace get a name of both parts, and what the model
calls by that name is shown to the client as it declared it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.chat.models import FUNCTION_NAME, MAX_TOOLS, WORD_OR_TOOLS
from gateway.api.common.parameters import (
    TAG,
    UNSUPPORTED,
    FreeObject,
    ListOf,
    RequestPart,
    ignored,
    refused,
    tag_by_key,
)
from gateway.api.common.tools import Choice
from gateway.errors import InvalidRequest
from shared.messages import Tool

SEPARATOR = "__"

NO_WEB_SEARCH = (
    "there is no web search here; leave the tool out (Codex: web_search = "
    '"disabled" in config.toml). With external_web_access: false it is accepted as a search of '
    "a cache that has nothing in it, and the model is not told of it"
)
NO_CACHE = "there is no cache to search"


class FunctionTool(RequestPart):
    type: Literal["function"]
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: FreeObject | None = None
    strict: bool | None = None
    allowed_callers: Any = refused("only the model calls tools", ["direct"])
    defer_loading: Any = refused("all tools are loaded", False)
    output_schema: Any = ignored("describes what a client sends back")


class NamespaceTool(RequestPart):
    type: Literal["namespace"]
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    tools: ListOf[
        Annotated[Annotated[FunctionTool, Tag(TAG + "function")], tag_by_key("type", ("function",))]
    ] = Field(min_length=1, max_length=MAX_TOOLS)


class WebSearchTool(RequestPart):
    type: Literal["web_search", "web_search_2025_08_26"]
    external_web_access: bool | None = None
    filters: Any = ignored(NO_CACHE)
    index_gated_web_access: Any = ignored(NO_CACHE)
    indexed_web_access: Any = ignored(NO_CACHE)
    search_content_types: Any = ignored(NO_CACHE)
    search_context_size: Any = ignored(NO_CACHE)
    user_location: Any = ignored(NO_CACHE)

    @model_validator(mode="after")
    def _refuse_live_search(self) -> WebSearchTool:
        if self.external_web_access is not False:
            raise PydanticCustomError(
                UNSUPPORTED, "{meaning}", {"field": "type", "meaning": NO_WEB_SEARCH}
            )
        return self


AnyTool = Annotated[
    Annotated[FunctionTool, Tag(TAG + "function")]
    | Annotated[NamespaceTool, Tag(TAG + "namespace")]
    | Annotated[WebSearchTool, Tag(TAG + "web_search")]
    | Annotated[WebSearchTool, Tag(TAG + "web_search_2025_08_26")],
    tag_by_key("type", ("function", "namespace", "web_search", "web_search_2025_08_26")),
]


class NamedTool(RequestPart):
    type: Literal["function"]
    name: str = Field(pattern=FUNCTION_NAME)


class AllowedTools(RequestPart):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: ListOf[NamedTool] = Field(min_length=1)


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(TAG + "mode")]
    | Annotated[NamedTool, Tag(TAG + "function")]
    | Annotated[AllowedTools, Tag(TAG + "allowed_tools")],
    WORD_OR_TOOLS,
]


def full_name(namespace: str | None, name: str) -> str:
    """Return what the model knows a function by."""
    return f"{namespace}{SEPARATOR}{name}" if namespace else name


def namespaced(tools: Sequence[AnyTool] | None) -> dict[str, tuple[str, str]]:
    """Return (namespace, name) by the full name of each function that is in a namespace."""
    return {
        full_name(tool.name, function.name): (tool.name, function.name)
        for tool in tools or []
        if isinstance(tool, NamespaceTool)
        for function in tool.tools
    }


def functions(tools: Sequence[AnyTool] | None) -> list[Tool]:
    """Return all functions as the model is told of them. Raises InvalidRequest."""
    found = [function for tool in tools or [] for function in _functions_of(tool)]
    if len(found) > MAX_TOOLS:
        raise InvalidRequest(
            f"tools: must have at most {MAX_TOOLS} functions, those in namespaces among them.",
            param="tools",
        )
    return found


def choice(wanted: ToolChoice | None) -> Choice:
    if isinstance(wanted, NamedTool):
        return Choice("required", wanted.name, [(wanted.name, "tool_choice.name")])
    if isinstance(wanted, AllowedTools):
        names = [
            (tool.name, f"tool_choice.tools[{index}].name")
            for index, tool in enumerate(wanted.tools)
        ]
        return Choice(wanted.mode, names=names)
    return Choice(wanted or "auto")


def _functions_of(tool: AnyTool) -> Iterator[Tool]:
    if isinstance(tool, FunctionTool):
        yield _function(tool, tool.name, tool.description)
    elif isinstance(tool, NamespaceTool):
        # What is said of all of them is said once: it may be as long as a server's manual.
        about = tool.description
        for function in tool.tools:
            words = [part for part in (about, function.description) if part]
            yield _function(function, full_name(tool.name, function.name), "\n\n".join(words))
            about = None


def _function(tool: FunctionTool, name: str, description: str | None) -> Tool:
    return Tool(
        name=name,
        description=description or "",
        parameters=tool.parameters or {},
        strict=bool(tool.strict),
    )

"""Which functions a model may or must call, whatever dialect they were declared in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.errors import InvalidRequest
from shared.messages import Tool, ToolPolicy


@dataclass(frozen=True)
class Choice:
    """What a client said about calling tools.

    `names` are the only functions allowed, each with the path of the field that named it; empty:
    all. `exactly` is the one function that must be called.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    exactly: str | None = None
    names: list[tuple[str, str]] = field(default_factory=list)


def tool_policy(tools: list[Tool], choice: Choice, parallel: bool | None) -> ToolPolicy | None:
    """Raises InvalidRequest when the choice names or needs a tool that is not there."""
    available = {tool.name: tool for tool in tools}
    if len(available) < len(tools):
        raise InvalidRequest("tools: two functions have the same name.", param="tools")
    if choice.mode == "required" and not available:
        raise InvalidRequest("tool_choice: there are no tools to choose from.", param="tool_choice")
    for name, param in choice.names:
        if name not in available:
            raise InvalidRequest(f"{param}: tools has no function {name!r}.", param=param)
    if choice.mode == "none" or not available:
        return None
    allowed = {name for name, _ in choice.names} or set(available)
    return ToolPolicy(
        tools=[tool for tool in tools if tool.name in allowed or choice.exactly],
        mode=choice.mode,
        name=choice.exactly,
        parallel=parallel is not False,
    )

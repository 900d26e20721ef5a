"""Variables for the model's own chat template, as clients may set them."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidRequest

RESERVED = frozenset(
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


def template_options(
    options: dict[str, Any] | None, reasoning_effort: str | None, enable_thinking: bool | None
) -> dict[str, Any]:
    """Return all variables together; an effort of none switches thinking off.

    Raises:
        InvalidRequest: one of `options` would replace what the server itself passes.
    """
    merged: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name in RESERVED or name.startswith("_"):
            param = f"chat_template_kwargs.{name}"
            raise InvalidRequest(f"{param}: the server sets this one itself.", param=param)
        merged[name] = value
    if reasoning_effort is not None:
        merged["reasoning_effort"] = reasoning_effort
        if reasoning_effort == "none":
            merged.setdefault("enable_thinking", False)
    if enable_thinking is not None:
        merged["enable_thinking"] = enable_thinking
    return merged

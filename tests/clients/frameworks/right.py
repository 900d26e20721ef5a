"""The one table of what is right, whoever asks: a trial's outcome is judged by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.clients.asking import CAPITAL_ANSWER, COUNT_ANSWER


def is_shape(outcome: Any) -> bool:
    """In the form that was asked for, and nothing beside it."""
    return (
        isinstance(outcome, dict)
        and outcome.keys() == {"kind", "color"}
        and outcome["kind"] in ("circle", "square")
        and outcome["color"] in ("red", "blue")
    )


def is_streamed(outcome: Any) -> bool:
    """A client that streams forms and nothing else shows the last one."""
    return outcome == CAPITAL_ANSWER or is_shape(outcome)


def is_round_trip(outcome: Any) -> bool:
    """The tool was called as declared, and the model spoke after its result."""
    called, answer = outcome.get("called"), outcome.get("answer")
    return bool(called) and set(called) <= {"France", "Japan"} and bool(str(answer).strip())


def names_the_field(outcome: Any) -> bool:
    """The client's own exception, with our words."""
    return bool(outcome.get("raised")) and "temperature: must be" in outcome["message"]


RIGHT: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda outcome: outcome == CAPITAL_ANSWER,
    "picture": lambda outcome: outcome == COUNT_ANSWER,
    "stream": is_streamed,
    "structured": is_shape,
    "tool": is_round_trip,
    "error": names_the_field,
}


RIGHT_IN_OPEN_WEBUI: Mapping[str, Callable[[Any], bool]] = {
    "text": bool,
    "title": bool,
    "follow_ups": lambda outcome: isinstance(outcome, list),
    "picture": bool,
}
"""What a small model says behind 17,000 tokens of tools is its own: each must have been answered,
whole and without an error."""


def judged(told: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether each outcome is right, in the table's order; a client may lack a trial."""
    return {name: right(told[name]) for name, right in RIGHT.items() if name in told}

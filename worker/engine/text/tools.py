"""Finds a model's calls of tools in what it says.

Each family has its own way of writing a call; mlx-vlm's parsers know them. Between its markers a
call is collected and parsed when it is whole; what cannot be parsed is text like any other. Calls
that a grammar forces are a JSON list, whose arguments are passed on as they come.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from mlx_vlm.tools import ToolParser, load_tool_module
from mlx_vlm.tools.registry import SPECS

from shared.messages import ToolCallDelta
from worker.engine.text.stop import held_back

HERMES = "json_tools"
"""The way of models whose template knows of no tools: we tell them this one."""


class CallReader(Protocol):
    calls: int
    """How many calls there have been."""

    @property
    def cut(self) -> bool:
        """Whether the newest one is not whole."""

    def push(self, text: str) -> tuple[str, list[ToolCallDelta]]: ...

    def finish(self) -> tuple[str, list[ToolCallDelta]]: ...


class CallNames:
    """Makes the ids of a choice's calls: the same on any worker that goes on with the job."""

    def __init__(self, answer_id: str, choice: int) -> None:
        self._seed = f"{answer_id}/{choice}/"

    def id_of(self, index: int) -> str:
        digest = hashlib.sha256(f"{self._seed}{index}".encode()).hexdigest()
        return f"call_{digest[:24]}"


def find_parser(template: str | None) -> ToolParser:
    """The parser for calls as this chat template writes them."""
    matching = [spec for spec in SPECS if template is not None and spec.matches(template)]
    name = max(matching, key=lambda spec: spec.priority).name if matching else HERMES
    parser: ToolParser = load_tool_module(name)
    return parser


def tool_instructions(tools: Sequence[dict[str, Any]]) -> str:
    """Tell a model without a tool template of its tools."""
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "You may call functions. These are their signatures, within <tools></tools>:\n"
        f"<tools>\n{listed}\n</tools>\n\n"
        "To call one, answer with a JSON object within <tool_call></tool_call>:\n"
        '<tool_call>\n{"name": <function name>, "arguments": <arguments object>}\n</tool_call>'
    )


class MarkedCallReader:
    """Reads calls between a parser's markers."""

    def __init__(self, parser: ToolParser, tools: Sequence[dict[str, Any]], names: CallNames):
        self._parser = parser
        self._tools = list(tools)
        self._names = names
        self._held = ""
        self._inside = False
        self._after_call = False
        self.calls = 0

    @property
    def cut(self) -> bool:
        return False  # what is not whole is text

    def push(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        self._held += text
        passed = ""
        deltas: list[ToolCallDelta] = []
        while True:
            outside = "" if self._inside else self._take_outside()
            passed += self._between(outside)
            if not self._inside:
                return passed, deltas
            body = self._take_body()
            if body is None:
                return passed, deltas
            calls, raw = self._parse(body, closed=True)
            deltas += calls
            passed += raw

    def finish(self) -> tuple[str, list[ToolCallDelta]]:
        held, self._held = self._held, ""
        if not self._inside:
            return self._between(held), []
        self._inside = False
        calls, raw = self._parse(held, closed=False)
        return raw, calls

    def _take_outside(self) -> str:
        start = self._parser.tool_call_start
        place = self._held.find(start)
        if place >= 0:
            outside, self._held = self._held[:place], self._held[place + len(start) :]
            self._inside = True
            return outside
        end = len(self._held) - held_back(self._held, start)
        outside, self._held = self._held[:end], self._held[end:]
        return outside

    def _take_body(self) -> str | None:
        """The text up to the end marker, or None if it has not come yet."""
        end = self._parser.tool_call_end or "\n"
        place = self._held.find(end)
        if place < 0:
            return None
        body, self._held = self._held[:place], self._held[place + len(end) :]
        self._inside = False
        return body

    def _parse(self, body: str, *, closed: bool) -> tuple[list[ToolCallDelta], str]:
        """Return the calls in it, or, if it is malformed, the text as it was."""
        try:
            found = self._parser.parse_tool_call(body.strip(), self._tools)
            calls = found if isinstance(found, list) else [found]
            written = [(str(call["name"]).strip(), _as_json(call["arguments"])) for call in calls]
        except Exception:
            # The parsers raise whatever their format trips over; the answer must survive it.
            end = self._parser.tool_call_end or "\n"
            return [], self._parser.tool_call_start + body + (end if closed else "")
        deltas = []
        for name, arguments in written:
            call_id = self._names.id_of(self.calls)
            deltas.append(ToolCallDelta(self.calls, arguments, call_id, name))
            self.calls += 1
        self._after_call = True
        return deltas, ""

    def _between(self, text: str) -> str:
        """White space that follows a call is layout, not content."""
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        return text


class ForcedCallReader:
    """Reads the list of calls that a grammar forced: `[{"name": ..., "arguments": {...}}, ...]`.

    The grammar lets nothing malformed through, so arguments can be passed on as they come.
    """

    HEAD = re.compile(
        r'\s*\}?\s*[\[,]?\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*'
    )

    def __init__(self, names: CallNames) -> None:
        self._names = names
        self._held = ""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._in_arguments = False
        self.calls = 0

    @property
    def cut(self) -> bool:
        return self._in_arguments

    def push(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        self._held += text
        deltas: list[ToolCallDelta] = []
        while self._held:
            if not self._in_arguments:
                head = self.HEAD.match(self._held)
                if head is None:
                    break
                name = str(json.loads(head[1]))
                deltas.append(ToolCallDelta(self.calls, "", self._names.id_of(self.calls), name))
                self._held = self._held[head.end() :]
                self.calls += 1
                self._in_arguments = True
                continue
            piece = self._take_arguments()
            if piece:
                deltas.append(ToolCallDelta(self.calls - 1, piece))
        return "", deltas

    def finish(self) -> tuple[str, list[ToolCallDelta]]:
        self._held = ""
        return "", []

    def _take_arguments(self) -> str:
        """Take up to the end of the arguments object, or all there is.

        Not the blanks before it: clients parse what they have at every piece, and a blank is no
        beginning of JSON to them.
        """
        if self._depth == 0:
            self._held = self._held.lstrip()
        for place, character in enumerate(self._held):
            self._scan(character)
            if self._depth == 0 and character == "}" and not self._in_string:
                self._in_arguments = False
                piece, self._held = self._held[: place + 1], self._held[place + 1 :]
                return piece
        piece, self._held = self._held, ""
        return piece

    def _scan(self, character: str) -> None:
        if self._in_string:
            ends = character == '"' and not self._escaped
            self._escaped = character == "\\" and not self._escaped
            self._in_string = not ends
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1


def _as_json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)

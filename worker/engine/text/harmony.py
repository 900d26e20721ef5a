"""Reads answers in gpt-oss's own format, "harmony": messages with channels and recipients.

An answer is one message or more: `<|channel|>analysis<|message|>...<|end|><|start|>assistant`
`<|channel|>final<|message|>...<|return|>`. The channel `analysis` is thinking, `final` the answer.
A message in `commentary` with a recipient (`to=functions.NAME`, before or after the channel) is a
call, whose text is its arguments; one without is told to the user before a call. The model ends
with `<|return|>`, or with `<|call|>` to wait for a tool.

Only what is known to be an answer becomes content: other channels and recipients (its built-in
tools, which nobody runs here; calls when there are no tools) are thoughts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from shared.messages import ToolCallDelta
from worker.engine.text.stop import held_back
from worker.engine.text.tools import CallNames, CallReader

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
ENDS = ("<|call|>", "<|return|>")
"""An answer ends with either."""
MARKERS = frozenset({START, CHANNEL, MESSAGE, END, "<|constrain|>", *ENDS})
BEGINNINGS = (START, CHANNEL, MESSAGE)
"""Markers with which the head of a message begins. A recipient may come first, too, but "to" is
also how a word begins, and no head."""

SIGN = "\udc00"
"""Stands before a marker that is one: no text has it, for it is half of a character."""
_START, _CHANNEL, _MESSAGE = (SIGN + mark for mark in (START, CHANNEL, MESSAGE))
_MARKERS = frozenset(SIGN + mark for mark in MARKERS)
_CLOSING = tuple(SIGN + mark for mark in (END, *ENDS, START, CHANNEL))
"""What ends a message's text; the last two where the model forgot its end."""
_HEADS = (_START, _CHANNEL, _MESSAGE, "to=")
"""How the head of a message begins, after the role that the prompt may have written."""
_ANY_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
RECIPIENT = re.compile(rf"\bto=([^\s<{SIGN}]+)")
FUNCTION = "functions."

Kind = Literal["reasoning", "content", "call"]


def speaks_harmony(template: str | None) -> bool:
    return template is not None and all(mark in template for mark in (START, CHANNEL, MESSAGE))


def signed(text: str) -> str:
    """The text with its markers told from the same letters: all that are there are markers."""
    return _ANY_MARKER.sub(lambda found: SIGN + found[0], text)


class HarmonySplitter:
    """Splits a stream of text into (reasoning, content) and keeps the calls for `take_calls`.

    Args:
        prompt: it ends with the head of the answer's first message, or with a part of it.
        tools: the names of the tools that may be called; empty when there are none.
    """

    def __init__(self, prompt: str, tools: Collection[str], names: CallNames) -> None:
        self._tools = frozenset(tools)
        self._names = names
        self._held = ""
        self._head = ""
        self._kind: Kind | None = None
        self._deltas: list[ToolCallDelta] = []
        self._parted: set[Kind] = set()
        self._said: set[Kind] = set()
        self._argued = False
        self.calls = 0
        prompt = signed(prompt)
        place = prompt.rfind(_START)
        if place >= 0:
            _, has_head, text = prompt[place:].partition(_MESSAGE)
            if not has_head:
                self._head = prompt[place:]
            elif not any(mark in text for mark in _CLOSING):
                self._open(prompt[place:])  # an answer that the client has begun
        self.thinking = self._kind != "content"
        """Whether what comes next is no part of the answer proper."""

    @property
    def at_head(self) -> bool:
        """Whether the next message has still to begin."""
        return self._kind is None and not self._held

    def push(self, text: str) -> tuple[str, str]:
        """
        Args:
            text: as `signed` has it: letters that spell a marker are none.
        """
        self._held += text
        said: dict[Kind, str] = {"reasoning": "", "content": "", "call": ""}
        while self._step(said):
            pass
        self.thinking = self._kind != "content"
        return said["reasoning"], said["content"]

    def finish(self) -> tuple[str, str]:
        """Let go of what was held back; an unfinished head says nothing."""
        said: dict[Kind, str] = {"reasoning": "", "content": "", "call": ""}
        if self._kind is not None:
            self._say(self._held, said)
            self._close()
        elif not self._held.lstrip().startswith(_HEADS):
            said["content"] = self._held
        self._held = ""
        return said["reasoning"], said["content"]

    def take_calls(self) -> list[ToolCallDelta]:
        """What has been called since the last time."""
        deltas, self._deltas = self._deltas, []
        return deltas

    # --- heads and texts -------------------------------------------------------------------------

    def _step(self, said: dict[Kind, str]) -> bool:
        """Read a head or a text to its end; False when more has to come for that."""
        return self._read_head() if self._kind is None else self._read_text(said)

    def _read_head(self) -> bool:
        if not self._may_be_head(self._held.lstrip()):
            self._begin("content")  # a model that does not keep to the format
            return True
        place = self._held.find(_MESSAGE)
        if place < 0:
            return False
        self._open(self._head + self._held[:place])
        self._held = self._held[place + len(_MESSAGE) :]
        return True

    def _may_be_head(self, text: str) -> bool:
        return any(text.startswith(head) or head.startswith(text) for head in _HEADS)

    def _read_text(self, said: dict[Kind, str]) -> bool:
        places = [(self._held.find(mark), mark) for mark in _MARKERS if mark in self._held]
        if not places:
            keep = max(held_back(self._held, mark) for mark in _MARKERS)
            end = len(self._held) - keep
            self._say(self._held[:end], said)
            self._held = self._held[end:]
            return False
        place, mark = min(places)
        self._say(self._held[:place], said)
        if mark in _CLOSING:
            self._close()
        opens = mark in (_START, _CHANNEL)
        self._held = self._held[place + (0 if opens else len(mark)) :]
        return True

    def _open(self, head: str) -> None:
        """Begin the text of the message with this head."""
        recipient = RECIPIENT.search(head)
        channel = CHANNEL_NAME.search(head)
        name = self._called(recipient[1]) if recipient is not None else None
        if name is not None:
            self._begin("call")
            self._deltas.append(ToolCallDelta(self.calls, "", self._names.id_of(self.calls), name))
            self.calls += 1
            self._argued = False
        elif recipient is not None:
            self._begin("reasoning")
        else:
            shown = {"final", "commentary"} if self._tools else {"final"}
            self._begin("content" if channel is not None and channel[1] in shown else "reasoning")

    def _called(self, recipient: str) -> str | None:
        """The tool's name, or None if this is no call of a tool of ours."""
        if not self._tools or not recipient.startswith(FUNCTION):
            return None
        name = recipient.removeprefix(FUNCTION)
        if name not in self._tools and name.removesuffix("json") in self._tools:
            return name.removesuffix("json")  # the model left out the blank before its type
        return name

    def _begin(self, kind: Kind) -> None:
        self._kind, self._head = kind, ""
        if kind in self._said:
            self._parted.add(kind)

    def _say(self, text: str, said: dict[Kind, str]) -> None:
        kind = self._kind
        assert kind is not None
        if kind == "call":
            text = text if self._argued else text.lstrip()
            if text:
                self._argued = True
                self._deltas.append(ToolCallDelta(self.calls - 1, text))
        elif text:
            parted = kind in self._parted
            self._parted.discard(kind)
            self._said.add(kind)
            said[kind] += "\n" + text if parted else text

    def _close(self) -> None:
        if self._kind == "call" and not self._argued:
            self._deltas.append(ToolCallDelta(self.calls - 1, "{}"))
        self._kind = None


class HarmonyCallReader:
    """The calls that a splitter has found, and those that a grammar forced into the answer."""

    def __init__(self, splitter: HarmonySplitter, forced: CallReader | None) -> None:
        self._splitter = splitter
        self._forced = forced
        self.calls = 0

    @property
    def cut(self) -> bool:
        return self._forced is not None and self._forced.cut

    def push(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        deltas = self._splitter.take_calls()
        self.calls = self._splitter.calls
        if self._forced is None:
            return text, deltas
        text, more = self._forced.push(text)
        self.calls += self._forced.calls
        return text, deltas + more

    def finish(self) -> tuple[str, list[ToolCallDelta]]:
        return self.push("")

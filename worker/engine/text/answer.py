"""One choice's answer as it grows: tokens in, pieces of text, reasoning and tool calls out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlx_vlm.tools import ToolParser

from shared.messages import FinishReason, Job, ToolCallDelta
from worker.engine.text.detokenizer import Vocabulary
from worker.engine.text.harmony import MARKERS, SIGN, HarmonyCallReader, HarmonySplitter
from worker.engine.text.reasoning import ReasoningSplitter, ThinkMarkers
from worker.engine.text.stop import StopFinder
from worker.engine.text.tools import CallNames, CallReader, ForcedCallReader, MarkedCallReader


@dataclass
class Piece:
    """What one token, or the end, brought."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Language:
    """How a model writes: what its tokens say, and how it marks thoughts and calls.

    Attributes:
        harmony: it writes gpt-oss's messages, which mark both in their own way.
        heads: tokens that begin one of these.
    """

    vocabulary: Vocabulary
    eos_ids: frozenset[int]
    markers: ThinkMarkers | None
    parser: ToolParser
    harmony: bool = False
    heads: frozenset[int] = frozenset()

    @property
    def call_start(self) -> str:
        """How a call begins within the answer proper; "": harmony's are messages of their own."""
        return "" if self.harmony else self.parser.tool_call_start


Splitter = ReasoningSplitter | HarmonySplitter


class Answer:
    """
    Args:
        prompt: the rendered prompt, which may have opened the model's thinking; what a client's
            text in it spells is marked as none.
        limit: most tokens.
    """

    def __init__(self, language: Language, job: Job, choice: int, prompt: str, limit: int) -> None:
        self.tokens: list[int] = []
        self.reasoning_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.limit = limit
        self._eos_ids = frozenset() if job.ignore_eos else language.eos_ids
        self._ended = language.eos_ids
        goes_on = job.continue_final_message or bool(job.prompt or job.prompt_ids)
        self._vocabulary = language.vocabulary
        self._detokenizer = language.vocabulary.detokenizer(begins=not goes_on)
        self._splitter = _splitter(language, job, choice, prompt)
        self._stops = StopFinder(job.stop)
        self._calls = _call_reader(language, job, choice, self._splitter)

    @property
    def stop(self) -> str | None:
        """The stop string that ended it."""
        return self._stops.match

    @property
    def thinking(self) -> bool:
        return self._splitter.thinking

    @property
    def at_head(self) -> bool:
        """Whether it has to say first what its next part is: harmony's answers are messages."""
        return isinstance(self._splitter, HarmonySplitter) and self._splitter.at_head

    def is_end(self, token: int) -> bool:
        """Whether the model says with this token that it has finished."""
        return token in self._ended

    def push(self, token: int) -> Piece:
        """Take the next token; sets `finish_reason` if the answer is complete with it."""
        self.tokens.append(token)
        if token in self._eos_ids:
            return self._end("stop")
        self.reasoning_tokens += self._splitter.thinking
        piece = self._read(*self._splitter.push(self._said(token)))
        if self._stops.found:
            return self._end("stop", piece)
        if len(self.tokens) >= self.limit:
            return self._end("length", piece)
        return piece

    def _said(self, token: int) -> str:
        if token in self._ended:
            return ""
        if isinstance(self._splitter, HarmonySplitter):
            mark = self._vocabulary.added_token(token)
            if mark in MARKERS:
                return f"{self._detokenizer.finish()}{SIGN}{mark}"
        return self._detokenizer.push(token)

    def _read(self, reasoning: str, content: str) -> Piece:
        passed = self._stops.push(content)
        if self._calls is None:
            return Piece(passed, reasoning)
        text, calls = self._calls.push(passed)
        return Piece(text, reasoning, calls)

    def _end(self, reason: FinishReason, piece: Piece | None = None) -> Piece:
        """Let go of all that was held back."""
        piece = piece or Piece()
        if not self._stops.found:
            for reasoning, content in (
                self._splitter.push(self._detokenizer.finish()),
                self._splitter.finish(),
            ):
                _add(piece, self._read(reasoning, content))
        if not self._stops.found:
            _add(piece, self._flushed(self._stops.finish()))
        if self._stops.found:
            reason = "stop"
        if self._calls is not None:
            text, calls = self._calls.finish()
            _add(piece, Piece(text, "", calls))
            if self._calls.calls and reason == "stop" and not self._calls.cut:
                reason = "tool_calls"
        self.finish_reason = piece.finish_reason = reason
        return piece

    def _flushed(self, text: str) -> Piece:
        if self._calls is None:
            return Piece(text)
        return Piece(*_without_reasoning(self._calls.push(text)))


def _without_reasoning(read: tuple[str, list[ToolCallDelta]]) -> tuple[str, str, Any]:
    return read[0], "", read[1]


def _add(piece: Piece, more: Piece) -> None:
    piece.text += more.text
    piece.reasoning += more.reasoning
    piece.tool_calls += more.tool_calls


def _splitter(language: Language, job: Job, choice: int, prompt: str) -> Splitter:
    if not job.messages:
        # A raw prompt's answer is all text, also where the prompt ends within a thought.
        return ReasoningSplitter(None, prompt)
    if not language.harmony:
        return ReasoningSplitter(language.markers, prompt)
    policy = job.tool_policy
    tools = [tool.name for tool in policy.tools] if policy is not None else []
    return HarmonySplitter(prompt, tools, CallNames(job.answer_id, choice))


def _call_reader(
    language: Language, job: Job, choice: int, splitter: Splitter
) -> CallReader | None:
    policy = job.tool_policy
    if policy is None:
        return None
    names = CallNames(job.answer_id, choice)
    forced = ForcedCallReader(names) if policy.mode == "required" else None
    if isinstance(splitter, HarmonySplitter):
        return HarmonyCallReader(splitter, forced)
    if forced is not None:
        return forced
    tools = [
        {"type": "function", "function": {"name": tool.name, "parameters": tool.parameters}}
        for tool in policy.tools
    ]
    return MarkedCallReader(language.parser, tools, names)

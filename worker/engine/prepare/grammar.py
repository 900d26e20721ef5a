"""Answers that must have a form: JSON, a JSON schema, a call of a tool.

llguidance says which tokens may come next. Its bit masks are made on the host and applied to the
logits with plain MLX, which works on any device.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import llguidance.hf
import mlx.core as mx
import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher
from llguidance.numpy import fill_next_token_bitmask

from shared.messages import Job, Tool, ToolPolicy
from worker.engine.faults import JobFault
from worker.engine.prepare.compiled import compiled

MOST_CALLS = 16
"""A model that is forced to call tools may not go on for ever."""

_SAYS_MEMBERS = (
    "properties",
    "patternProperties",
    "additionalProperties",
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
)

Mask = npt.NDArray[np.bool_]


class GrammarState:
    """Where one row stands in its grammar. While inactive (the model thinks) anything goes.

    Args:
        at_end: the mask for when the grammar is complete: nothing but the answer's end.
        instead: tokens with which the model may begin something else, a call, in place of what
            the grammar demands; after one of them anything goes.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        vocabulary: int,
        at_end: Mask,
        instead: frozenset[int] = frozenset(),
    ) -> None:
        self._matcher = matcher
        self._instead = instead
        self._begun = False
        self._left = False
        self._vocabulary = vocabulary
        self._at_end = at_end
        self._bits = np.empty((1, (vocabulary + 31) // 32), np.int32)
        self.active = True
        self.unenforced: tuple[str, ...] = ()
        """What of the schema the grammar leaves out."""

    def fork(self) -> GrammarState:
        """A state of its own at the same place, for another row."""
        twin = GrammarState(
            self._matcher.deep_copy(), self._vocabulary, self._at_end, self._instead
        )
        twin.active, twin._begun, twin._left = self.active, self._begun, self._left
        return twin

    def accept(self, token: int) -> None:
        """Go on by one token of the answer.

        Raises:
            JobFault: it does not fit, which no token chosen under a mask should.
        """
        if not self.active or self._left:
            return
        self._left = not self._begun and token in self._instead
        self._begun = True
        if (
            not self._left
            and not self._matcher.is_stopped()
            and not self._matcher.consume_token(token)
        ):
            words = self._matcher.get_error() or "a token does not fit"
            raise JobFault("internal_error", f"The grammar cannot go on: {words}")

    def mask(self) -> Mask | None:
        """Which tokens may come next, [vocabulary]; None if any may."""
        if not self.active or self._left:
            return None
        if self._matcher.is_stopped():
            return self._at_end
        fill_next_token_bitmask(self._matcher, self._bits)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        allowed = bits[: self._vocabulary].astype(np.bool_)
        if not self._begun:
            allowed[list(self._instead)] = True
        return allowed


def apply_masks(logits: mx.array, masks: Sequence[tuple[int, Mask]]) -> mx.array:
    """Rule tokens out in some rows of [rows, vocabulary]."""
    if masks:
        rows = mx.array([row for row, _ in masks])
        allowed = mx.array(np.stack([mask for _, mask in masks]))
        logits[rows] = mx.where(allowed, logits[rows], mx.array(-mx.inf, logits.dtype))
    return logits


class GrammarMaker:
    """Compiles the grammar that a job demands. Thread-safe.

    Args:
        vocabulary: how many logits the model has; may be more than the tokenizer's tokens.
        call_start: how the model begins a call within its answer proper; empty: it does not.
    """

    def __init__(
        self, tokenizer: Any, vocabulary: int, eos_ids: frozenset[int], call_start: str = ""
    ) -> None:
        self._call_tokens = frozenset(_first_token(tokenizer, call_start))
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos_ids = eos_ids
        self._at_end = np.zeros(vocabulary, np.bool_)
        self._at_end[[token for token in eos_ids if token < vocabulary]] = True
        self._lock = threading.Lock()
        self._translated: Any = None

    def make(self, job: Job) -> GrammarState | None:
        """
        Returns:
            None if the job's answer is free.

        Raises:
            JobFault: the schema cannot be compiled.
        """
        found = _demanded_schema(job)
        if found is None:
            return None
        schema, param = found
        try:
            tokens = self._tokens()
            for part in _strict_parts(job, schema):
                compiled(tokens, part, strict=True)
            matcher, unenforced = compiled(tokens, schema, strict=False)
        except (ValueError, RuntimeError, TypeError) as error:
            raise JobFault(
                "invalid_request", f"The schema cannot be used: {error}", param
            ) from error
        # A form is for what the model says. Where it may call tools instead, it still may.
        instead = self._call_tokens if _may_call(job) else frozenset()
        state = GrammarState(matcher, self._vocabulary, self._at_end, instead)
        state.unenforced = unenforced
        return state

    def _tokens(self) -> Any:
        """The tokenizer in llguidance's form: walks the whole vocabulary, so made only once."""
        with self._lock:
            if self._translated is None:
                self._translated = llguidance.hf.from_tokenizer(
                    self._tokenizer, n_vocab=self._vocabulary, eos_token=sorted(self._eos_ids)
                )
            return self._translated


def _first_token(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))[:1] if text else []


def _may_call(job: Job) -> bool:
    return job.tool_policy is not None and job.tool_policy.mode == "auto"


def _demanded_schema(job: Job) -> tuple[dict[str, Any], str] | None:
    if job.tool_policy is not None and job.tool_policy.mode == "required":
        return calls_schema(job.tool_policy), "tools"
    if job.response_format is None:
        return None
    return job.response_format.schema or {"type": "object"}, "response_format"


def _strict_parts(job: Job, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of which nothing may be left out: tools say so one by one."""
    policy = job.tool_policy
    if policy is not None and policy.mode == "required":
        alone = [msgspec.structs.replace(policy, tools=[tool]) for tool in policy.tools]
        return [calls_schema(one) for one in alone if one.tools[0].strict and _may_be_called(one)]
    return [schema] if job.response_format is not None and job.response_format.strict else []


def _may_be_called(policy: ToolPolicy) -> bool:
    return policy.name in (None, policy.tools[0].name)


def calls_schema(policy: ToolPolicy) -> dict[str, Any]:
    """The schema of a list of calls: `[{"name": ..., "arguments": {...}}, ...]`."""
    tools = [tool for tool in policy.tools if policy.name in (None, tool.name)]
    definitions: dict[str, Any] = {}
    calls = []
    for index, tool in enumerate(tools):
        parameters = _arguments_schema(tool)
        # References start at the root of the whole, where tools may have the same names.
        moved = _moved(parameters, f"#/$defs/{index}")
        if moved != parameters:
            definitions[str(index)] = moved
            parameters = {"$ref": f"#/$defs/{index}"}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    many = policy.parallel and policy.name is None
    schema: dict[str, Any] = {
        "type": "array",
        "items": {"anyOf": calls} if len(calls) > 1 else calls[0],
        "minItems": 1,
        "maxItems": MOST_CALLS if many else 1,
    }
    return schema | ({"$defs": definitions} if definitions else {})


def _arguments_schema(tool: Tool) -> dict[str, Any]:
    """A tool that lists no parameters takes none."""
    parameters = {"type": "object"} | tool.parameters
    if parameters.keys().isdisjoint(_SAYS_MEMBERS):
        parameters["properties"] = {}
    return parameters


def _moved(schema: Any, root: str) -> Any:
    """Return a schema whose references to itself hold when it stands at `root`."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for key, value in schema.items()
    }

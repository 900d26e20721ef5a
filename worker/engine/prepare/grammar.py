"""Answers that must have a form: JSON, a JSON schema, a call of a tool.

llguidance says which tokens may come next. Its bit masks are made on the host and applied to the
logits with plain MLX, which works on any device.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask

from shared.messages import Job, TextPart
from worker.engine.faults import JobFault
from worker.engine.prepare.compiled import compiled
from worker.engine.prepare.schema import demanded_schema, demanding, prepared, strict_parts

Mask = npt.NDArray[np.bool_]


class GrammarState:
    """Where one row stands in its grammar. While inactive (the model thinks) anything goes.

    Args:
        at_end: the mask for when the grammar is complete: nothing but the answer's end.
        param: the request's parameter that demands it.
        instead: tokens with which the model may begin something else, a call, in place of what
            the grammar demands; after one of them anything goes.
        heads: the mask for where a message has still to begin (`at_head`), in formats of messages.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        vocabulary: int,
        at_end: Mask,
        param: str,
        instead: frozenset[int] = frozenset(),
        heads: Mask | None = None,
    ) -> None:
        self._heads = heads
        self.at_head = False
        self._matcher = matcher
        self._instead = instead
        self._begun = False
        self._left = False
        self._vocabulary = vocabulary
        self._at_end = at_end
        self._param = param
        self._bits = np.empty((1, (vocabulary + 31) // 32), np.int32)
        self.active = True
        self.unenforced: tuple[str, ...] = ()
        """What of the schema the grammar leaves out."""
        self._next = self._allowed()

    def fork(self) -> GrammarState:
        """A state of its own at the same place, for another row."""
        twin = GrammarState(
            self._matcher.deep_copy(),
            self._vocabulary,
            self._at_end,
            self._param,
            self._instead,
            self._heads,
        )
        twin.at_head = self.at_head
        twin.active, twin._begun, twin._left = self.active, self._begun, self._left
        twin._next = self._next
        return twin

    def accept(self, token: int) -> None:
        """Go on by one token of the answer.

        Raises:
            JobFault: the grammar is too complex to go on.
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
            self._fail()
        self._next = self._allowed()

    def along(self, draft: Sequence[int]) -> list[Mask | None]:
        """Which tokens may come next here, and after each token of a draft, as long as these fit:
        one mask more than there are tokens that do. It stays where it is.

        Whether the model thinks, and whether a message begins, is taken to stay as it is now.
        """
        masks = [self.mask()]
        fork: GrammarState | None = None
        for token in draft:
            newest = masks[-1]
            if newest is not None and not newest[token]:
                break
            if self.active and not self._left:
                try:
                    fork = fork or self.fork()
                    fork.accept(token)
                except JobFault:  # too complex: if it is said, that is told then
                    break
                masks.append(fork.mask())
            else:
                masks.append(newest)
        return masks

    def begin_with(self, tokens: Sequence[int]) -> bool:
        """Go on from an answer that has begun already; False if its beginning does not fit."""
        self._begun = self._begun or bool(tokens)
        taken: int = self._matcher.try_consume_tokens(list(tokens))
        if taken < len(tokens):
            return False
        self._next = self._allowed()
        return True

    def _fail(self) -> NoReturn:
        """A token chosen under a mask always fits, unless the compiler's limits are reached."""
        if self._matcher.is_error():
            raise _unusable(self._matcher.get_error(), self._param)
        raise JobFault("internal_error", "The grammar cannot go on: a token does not fit.")

    def mask(self) -> Mask | None:
        """Which tokens may come next, [vocabulary]; None if any may."""
        if self.at_head:
            return self._heads
        return None if not self.active or self._left else self._next

    def _allowed(self) -> Mask:
        """Looked up as soon as its token is there: what fails then is the fault of one row."""
        if self._matcher.is_stopped() and not self._matcher.is_error():
            return self._at_end
        fill_next_token_bitmask(self._matcher, self._bits)
        if self._matcher.is_error():
            self._fail()
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
        heads: tokens that begin a message of an answer in a format of messages; empty: it has none.
    """

    def __init__(
        self,
        tokenizer: Any,
        vocabulary: int,
        eos_ids: frozenset[int],
        call_start: str = "",
        heads: frozenset[int] = frozenset(),
    ) -> None:
        self._call_tokens = frozenset(_first_token(tokenizer, call_start))
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos_ids = eos_ids
        self._at_end = _mask_of(eos_ids, vocabulary)
        self._heads = _mask_of(heads, vocabulary) if heads else None
        self._lock = threading.Lock()
        self._translated: Any = None

    def make(self, job: Job) -> GrammarState | None:
        """
        Returns:
            None if the job's answer is free.

        Raises:
            JobFault: the schema cannot be compiled.
        """
        param = demanding(job)
        if param is None:
            return None
        if not self._at_end.any():
            words = "This model has no end token, and an answer that must have a form needs one."
            raise JobFault("invalid_request", words, param)
        try:
            schema, tokens = prepared(demanded_schema(job)), self._tokens()
            for part in strict_parts(job):
                compiled(tokens, prepared(part), strict=True)
            matcher, unenforced = compiled(tokens, schema, strict=False)
        except (ValueError, RuntimeError, TypeError) as error:
            raise _unusable(str(error), param) from error
        # A form is for what the model says. Where it may call tools instead, it still may.
        instead = self._call_tokens if _may_call(job) else frozenset()
        state = GrammarState(matcher, self._vocabulary, self._at_end, param, instead, self._heads)
        state.unenforced = unenforced
        begun = _begun(job)
        # A call is told as it comes: the client's part of it could not be.
        if begun and param == "tools":
            words = "A call that must be made cannot go on from an answer that is to be continued."
            raise JobFault("invalid_request", words, "messages")
        if begun and not state.begin_with(tokens.tokenize_str(begun)):
            words = "The answer that is to be continued does not begin as response_format demands."
            raise JobFault("invalid_request", words, "messages")
        return state

    def _tokens(self) -> Any:
        """The tokenizer in llguidance's form: walks the whole vocabulary, so made only once."""
        with self._lock:
            if self._translated is None:
                self._translated = LLTokenizer(
                    _serialized(self._tokenizer),
                    n_vocab=self._vocabulary,
                    eos_token=sorted(self._eos_ids),
                )
            return self._translated


def _mask_of(tokens: Iterable[int], vocabulary: int) -> Mask:
    mask = np.zeros(vocabulary, np.bool_)
    mask[[token for token in tokens if token < vocabulary]] = True
    return mask


def _first_token(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))[:1] if text else []


def _may_call(job: Job) -> bool:
    return job.tool_policy is not None and job.tool_policy.mode == "auto"


def _unusable(reason: str, param: str) -> JobFault:
    # The compiler's first line says what is wrong; its whole state follows.
    words = f"The schema cannot be used: {reason.strip().splitlines()[0]}"
    return JobFault("invalid_request", words, param)


def _begun(job: Job) -> str:
    """What the client has said of the answer already, without the white space before it."""
    if not job.continue_final_message:
        return ""
    parts = job.messages[-1].content
    return "".join(part.text for part in parts if isinstance(part, TextPart)).lstrip()


UNWRITABLE = "\ue000"
"""From Unicode's private use area: begins no token of a text."""


def _serialized(tokenizer: Any) -> str:
    """The tokenizer as JSON, its special tokens under names that no text has.

    Under their own names a text that spells one ("<|im_end|>" as a value) would be cut into it,
    and it stands for no text.

    Raises:
        ValueError: it is no fast tokenizer.
    """
    if not tokenizer.is_fast:
        raise ValueError("this model's tokenizer cannot be read by the grammar compiler")
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["padding"] = content["truncation"] = None
    special = {added["content"] for added in content["added_tokens"] if added["special"]}

    def renamed(name: str) -> str:
        return UNWRITABLE + name if name in special else name

    for added in content["added_tokens"]:
        added["content"] = renamed(added["content"])
    pieces = content["model"]["vocab"]
    if isinstance(pieces, dict):
        content["model"]["vocab"] = {renamed(name): token for name, token in pieces.items()}
    else:
        content["model"]["vocab"] = [[renamed(name), score] for name, score in pieces]
    return json.dumps(content)

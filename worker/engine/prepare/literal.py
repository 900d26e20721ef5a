"""Text is text: what a client writes is never read as a control token or a place for a picture.

A text that spells one gets an invisible mark inside that spelling. Templates and processors then
do not find it, and the tokenizer's first normalisation takes the mark away again, after its
special tokens have been looked for and before the text is cut into tokens. So a marked text has
the tokens that its letters have, and a text without such spellings is not touched at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tokenizers import normalizers

from worker.engine.faults import JobFault
from worker.engine.text.reasoning import find_markers
from worker.engine.text.tools import find_parser

FIRST, BREAK, ITSELF = "\ue0f1", "\ue0f2", "\ue0f3"
"""Characters for private use. FIRST BREAK is the mark; FIRST ITSELF a client's own FIRST."""
MARK = FIRST + BREAK
MEDIA = (
    r"<\|?/?(?:image|img|im_patch|im_col|video|vid_|audio|vision|media|start_of_im|end_of_im|soi|eoi)[^<>\s]{0,40}>"
    r"|\[IMG\w{0,40}\]|<\|?\w{0,40}(?:image|video|audio)\w{0,40}\|?>"
)
"""How processors of mlx-vlm spell the place of a picture, beside the tokenizer's own tokens."""
SHORTEST = 3
"""Some tokenizers pad with "!": what is shorter is a word, whatever they call it."""


class Literals:
    """
    Args:
        tokenizer: gets a normalisation that takes marks away; others' texts are as before.
        template: whose marks of thoughts and calls are words, not controls.
    """

    def __init__(self, tokenizer: Any, template: str | None) -> None:
        self._tokenizer = tokenizer
        controls = _controls(tokenizer, template)
        self._drops_marks = _install(tokenizer, controls)
        self._controls = re.compile("|".join([*map(re.escape, controls), MEDIA]))
        self._media = re.compile(MEDIA)
        self._beginnings = frozenset(c[:n] for c in controls for n in range(1, len(c)))
        self._ends = frozenset(c[n:] for c in controls for n in range(1, len(c)))
        self._longest = max(map(len, controls), default=1)

    def quoted(self, value: Any) -> Any:
        """The text with its control spellings marked; the same for all strings of a JSON value.

        Raises:
            JobFault: the tokenizer cannot drop marks, and there is something to mark.
        """
        if isinstance(value, str):
            return self._at_its_ends(self._marked(value, self._controls))
        if isinstance(value, dict):
            return {self.quoted(name): self.quoted(one) for name, one in value.items()}
        return [self.quoted(one) for one in value] if isinstance(value, list) else value

    def without_media(self, text: str) -> str:
        """A raw prompt: its control tokens are meant, but there are no pictures to it."""
        return self._marked(text, self._media)

    def plain(self, text: str) -> str:
        """What the client wrote."""
        return text.replace(MARK, "").replace(FIRST + ITSELF, FIRST)

    def _marked(self, text: str, spellings: re.Pattern[str]) -> str:
        found = spellings.search(text)
        if not self._drops_marks:
            if found:
                raise JobFault(
                    "invalid_request",
                    f"This model's tokenizer cannot take {found[0]!r} as text.",
                    "messages",
                )
            return text
        pieces = []
        begun = 0
        while found:
            # The next one may begin within this one.
            pieces.append(_escaped(text[begun : found.start() + 1]) + MARK)
            begun = found.start() + 1
            found = spellings.search(text, begun)
        return "".join(pieces) + _escaped(text[begun:])

    def _at_its_ends(self, text: str) -> str:
        """Mark halves of a spelling, whose other half may be what comes before or after."""
        if not text or not self._drops_marks:
            return text
        lengths = range(1, min(len(text), self._longest) + 1)
        if any(text[-n:] in self._beginnings for n in lengths):
            text += MARK
        if any(text[:n] in self._ends for n in lengths):
            text = MARK + text
        return text


def _escaped(text: str) -> str:
    return text.replace(FIRST, FIRST + ITSELF)


def _controls(tokenizer: Any, template: str | None) -> list[str]:
    """Spellings of the tokens that a text must not become, the longest first."""
    parser, thoughts = find_parser(template), find_markers(template)
    words = {parser.tool_call_start, parser.tool_call_end}
    if thoughts is not None:
        words |= {thoughts.start, thoughts.end}
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {str(token) for token in added if token.special or _is_turn(str(token), template)}
    special |= {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    return sorted((s for s in special - words if len(s) >= SHORTEST), key=len, reverse=True)


def _is_turn(token: str, template: str | None) -> bool:
    """Some families' turns (DeepSeek's) begin with tokens that are not called special."""
    return template is not None and token in template and "|" in token.replace("｜", "|")


def _install(tokenizer: Any, controls: Iterable[str]) -> bool:
    """Have the tokenizer drop marks; return whether it does, for every control token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    if not _drops(backend, "a"):
        before = [backend.normalizer] if backend.normalizer is not None else []
        marks = [normalizers.Replace(MARK, ""), normalizers.Replace(FIRST + ITSELF, FIRST)]
        backend.normalizer = normalizers.Sequence([*marks, *before])
    return all(_drops(backend, control) for control in controls)


def _drops(backend: Any, text: str) -> bool:
    """Whether a marked text keeps none of its mark, and is not taken for the token it spells."""
    ids = backend.encode(text[0] + MARK + text[1:], add_special_tokens=False).ids
    if len(text) < SHORTEST:
        return bool(ids == backend.encode(text, add_special_tokens=False).ids)
    return backend.token_to_id(text) not in ids

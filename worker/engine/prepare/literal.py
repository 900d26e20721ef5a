"""Text is text: what a client writes is never read as a control token or a place for a picture.

A text that spells one gets an invisible mark inside that spelling. Templates and processors then
do not find it, and the tokenizer's first normalisation takes the mark away again, after its
special tokens have been looked for and before the text is cut into tokens. So a marked text has
the tokens that its letters have, and a text without such spellings is not touched at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from tokenizers import normalizers

from worker.engine.faults import JobFault
from worker.engine.text.harmony import speaks_harmony
from worker.engine.text.reasoning import find_markers
from worker.engine.text.tools import find_parser

FIRST, BREAK, ITSELF = "\U00010600", "\U00010601", "\U00010602"
"""Signs of Linear A, which nobody can read. FIRST BREAK is the mark; FIRST ITSELF a client's own
FIRST. Letters, so that templates which write values as Python does leave them as they are."""
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
        template: whose marks of thoughts and calls are words of the model.
        placeholders: tokens in whose places the features of pictures go.
    """

    def __init__(
        self, tokenizer: Any, template: str | None, placeholders: Collection[str] = ()
    ) -> None:
        controls = _controls(tokenizer, template) | set(placeholders)
        self._all = _Spellings(controls)
        self._unsaid = _Spellings(controls - _words(template))
        self._media = _Spellings(placeholders)
        self._drops_marks = _install(tokenizer)
        self._refused: re.Pattern[str] | None = None
        if not self._drops_marks:
            self._refused = re.compile(f"{_any_of(controls)}|{MEDIA}")
        elif unmarkable := _unmarkable(tokenizer, controls):
            self._refused = re.compile(_any_of(unmarkable))

    def quoted(self, value: Any) -> Any:
        """The text with its control spellings marked; the same for all strings of a JSON value."""
        if isinstance(value, str):
            return self._all.at_ends(self._all.marked(value))
        if isinstance(value, dict):
            return {self.quoted(name): self.quoted(one) for name, one in value.items()}
        return [self.quoted(one) for one in value] if isinstance(value, list) else value

    def spoken(self, text: str) -> str:
        """What the model is to have said: quoted, but for its marks of thoughts and calls."""
        return self._unsaid.at_ends(self._unsaid.marked(text))

    def without_media(self, text: str) -> str:
        """A raw prompt: its control tokens are meant, but there are no pictures to it."""
        return self._media.marked(text)

    def tokenizable(self, marked: str, param: str) -> str:
        """A whole prompt that has been written with marked texts, as the tokenizer may have it.

        Args:
            param: of the request; the texts stand in it.

        Raises:
            JobFault: the tokenizer would find a marked control in spite of its mark.
        """
        refused, plain = self._refused, self.plain(marked)
        if refused is None or len(plain) == len(marked):
            return marked  # a mark hides each, or there is none
        found = Counter(refused.findall(plain)) - Counter(refused.findall(marked))
        if found:
            words = f"This model's tokenizer cannot take {next(iter(found))!r} as text."
            raise JobFault("invalid_request", words, param)
        return marked if self._drops_marks else plain

    def plain(self, text: str) -> str:
        """What the client wrote."""
        return text.replace(MARK, "").replace(FIRST + ITSELF, FIRST)


class _Spellings:
    """
    Args:
        controls: that a text must not become, beside the places of pictures.
    """

    def __init__(self, controls: Collection[str]) -> None:
        self._pattern = re.compile(f"{_any_of(controls)}|{MEDIA}")
        self._beginnings = frozenset(c[:n] for c in controls for n in range(1, len(c)))
        self._ends = frozenset(c[n:] for c in controls for n in range(1, len(c)))
        self._longest = max(map(len, controls), default=1)

    def marked(self, text: str) -> str:
        """The text with a mark after the first letter of each."""
        pieces = []
        begun = 0
        while found := self._pattern.search(text, begun):
            # The next one may begin within this one.
            pieces.append(_escaped(text[begun : found.start() + 1]) + MARK)
            begun = found.start() + 1
        return "".join(pieces) + _escaped(text[begun:])

    def at_ends(self, text: str) -> str:
        """Mark halves of a spelling, whose other half may be what comes before or after."""
        lengths = range(1, min(len(text), self._longest) + 1)
        if any(text[-n:] in self._beginnings for n in lengths):
            text += MARK
        if any(text[:n] in self._ends for n in lengths):
            text = MARK + text
        return text


def _any_of(words: Collection[str]) -> str:
    """An expression for any of them, as a tree: of thousands of alternatives with the same first
    letter, each would be tried."""
    if not words:
        return "(?!)"
    rests: dict[str, set[str]] = {}
    for word in words:
        rests.setdefault(word[0], set()).add(word[1:])
    return "(?:" + "|".join(re.escape(c) + _rest(rest) for c, rest in rests.items()) + ")"


def _rest(words: Collection[str]) -> str:
    return "" if "" in words else _any_of(words)


def _escaped(text: str) -> str:
    return text.replace(FIRST, FIRST + ITSELF)


def _words(template: str | None) -> set[str]:
    """Marks of thoughts and calls that the model writes, which a text of its own may have."""
    if speaks_harmony(template):
        return set()  # each ends a message
    parser, thoughts = find_parser(template), find_markers(template)
    words = {parser.tool_call_start, parser.tool_call_end}
    return words if thoughts is None else words | {thoughts.start, thoughts.end}


def _controls(tokenizer: Any, template: str | None) -> set[str]:
    """Spellings of the tokens that a text must not become."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {str(token) for token in added if token.special or _is_turn(str(token), template)}
    special |= {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    return {spelling for spelling in special if len(spelling) >= SHORTEST}


def _is_turn(token: str, template: str | None) -> bool:
    """Some families' turns (DeepSeek's) begin with tokens that are not called special."""
    return template is not None and token in template and "|" in token.replace("｜", "|")


def _install(tokenizer: Any) -> bool:
    """Have the tokenizer drop marks; return whether it does."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    if not _drops_mark(backend):
        before = [backend.normalizer] if backend.normalizer is not None else []
        marks = [normalizers.Replace(MARK, ""), normalizers.Replace(FIRST + ITSELF, FIRST)]
        backend.normalizer = normalizers.Sequence([*marks, *before])
    return _drops_mark(backend)


def _drops_mark(backend: Any) -> bool:
    marked, plain = (
        backend.encode(text, add_special_tokens=False).ids for text in ("a" + MARK, "a")
    )
    return bool(marked == plain)


def _unmarkable(tokenizer: Any, controls: Iterable[str]) -> list[str]:
    """Those that it finds only after its normalisation, when their marks are gone."""
    backend = tokenizer.backend_tokenizer

    def found(control: str) -> bool:
        marked = control[0] + MARK + control[1:]
        ids = backend.encode(marked, add_special_tokens=False).ids
        return backend.token_to_id(control) in ids

    return [control for control in controls if found(control)]

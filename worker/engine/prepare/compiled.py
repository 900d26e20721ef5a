"""A JSON schema made into a grammar, and what in it no grammar can enforce."""

from __future__ import annotations

import json
import re
from typing import Any

from llguidance import LLMatcher

from shared.messages.from_worker import MAX_UNENFORCED
from worker.engine.prepare.closed import closed
from worker.engine.prepare.subschemas import Schema, rebuilt

# Free white space would let a weak model write blanks for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

_FORMAT = re.compile(r"Unknown format: (.*)", re.DOTALL)
_KEYWORDS = re.compile(r"Unimplemented keys: (\[.*\])", re.DOTALL)
_BAD_PATTERN = "regex parse error"


def compiled(
    tokens: Any, schema: dict[str, Any], *, strict: bool
) -> tuple[LLMatcher, tuple[str, ...]]:
    """Return the grammar of a schema, its objects closed, and the keywords that it leaves out.

    Args:
        tokens: the tokenizer in llguidance's form.
        strict: leave nothing out.

    Raises:
        ValueError: the schema cannot be compiled; the words are for the client.
    """
    schema = rebuilt(closed(schema), _without_no_ops)
    matcher = _matcher(tokens, schema, strict)
    left_out: list[str] = []
    if not strict and matcher.is_error() and _BAD_PATTERN in matcher.get_error():
        # The compiler leaves out keywords by itself, but not expressions that it cannot read.
        schema = rebuilt(schema, _without_bad_patterns)
        left_out.append("pattern")
        matcher = _matcher(tokens, schema, strict)
    if matcher.is_error():
        raise ValueError(_reason(matcher, strict))
    for warning in matcher.get_grammar_warnings():
        left_out += _names(warning)
    return matcher, tuple(sorted(set(left_out)))[:MAX_UNENFORCED]


def _matcher(tokens: Any, schema: Schema, strict: bool) -> LLMatcher:
    # As overrides: a schema may have options of its own.
    options: dict[str, Any] = _LAYOUT | {"lenient": not strict}
    text = json.dumps(schema, ensure_ascii=False)
    return LLMatcher(tokens, LLMatcher.grammar_from_json_schema(text, overrides=options))


def _reason(matcher: LLMatcher, strict: bool) -> str:
    # The compiler's first line says what is wrong; its whole state follows. Of an expression it
    # shows the place first.
    words: str
    words, *more = matcher.get_error().strip().splitlines()
    if words.endswith(":"):
        words += more[-1].removeprefix("error:") if more else ""
    if strict and (_FORMAT.search(words) or _KEYWORDS.search(words) or "oneOf" in words):
        words += "; without strict it is let pass, and named in a header"
    return words


def _names(warning: str) -> list[str]:
    """Return the keywords that a warning is about, formats as `format:x`."""
    if found := _FORMAT.search(warning):
        return [f"format:{found[1]}"]
    if found := _KEYWORDS.search(warning):
        return list(map(str, json.loads(found[1])))
    return [warning.split(" ", 1)[0]]


def _without_no_ops(_: dict[str, Any], made: dict[str, Any]) -> Schema:
    """The compiler refuses the keyword, whatever it says."""
    if made.get("uniqueItems") is False:
        del made["uniqueItems"]
    return made


def _without_bad_patterns(_: dict[str, Any], made: dict[str, Any]) -> Schema:
    if isinstance(made.get("pattern"), str) and not _is_readable(made["pattern"]):
        del made["pattern"]
    named = made.get("patternProperties")
    if isinstance(named, dict):
        made["patternProperties"] = {key: one for key, one in named.items() if _is_readable(key)}
    return made


def _is_readable(pattern: str) -> bool:
    grammar = LLMatcher.grammar_from_json_schema({"type": "string", "pattern": pattern})
    is_error, _ = LLMatcher.validate_grammar_with_warnings(grammar)
    return not is_error

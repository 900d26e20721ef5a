"""Writes the tables of docs/protocol.md from the classes that both tiers import.

python -m scripts.protocol_tables

The words are the docstrings of the classes and of their fields in `shared/messages`.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from shared.messages import FromGateway, FromWorker, Job, JobMessage, Message, kinds

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENT = REPOSITORY / "docs" / "protocol.md"
DEFINITIONS = REPOSITORY / "shared" / "messages"
PLAIN = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    NoneType: "nil",
    Any: "anything",
}
PYTHONS_NIL = re.compile(r"`?\bNone\b`?")

EXACT_BELOW = 2**16
"""Figures that are written out; greater ones are shown as powers."""


def with_tables(text: str) -> str:
    """Return `text` with everything between each pair of markers replaced by what it should be."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        assert found and ended, f"the markers of {name} are missing"
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text


def tables() -> dict[str, str]:
    """Return Markdown by the name of its place in the document."""
    of_a_job = list(records(Job))
    told = [kind for kind in reachable(FromWorker) if kind not in of_a_job]
    return {
        "messages": overview(),
        "worker to gateway": chapters(by_code(FromWorker)),
        "gateway to worker": chapters(by_code(FromGateway)),
        "a job": chapters([Job, *of_a_job]),
        "an answer": chapters(told),
    }


def overview() -> str:
    rows = ["| code | message | sent by | longest frame 1 | arrays and maps in it | attachments |"]
    rows.append("|---|---|---|---|---|---|")
    for kind in by_code(Message):
        sender = "worker" if issubclass(kind, FromWorker) else "gateway"
        attached = "the job's images" if issubclass(kind, JobMessage) else "none"
        size = f"{kind.max_body_bytes >> 10} KiB"
        if kind.max_body_bytes >= 1 << 20:
            size = f"{kind.max_body_bytes >> 20} MiB"
        most = "any" if kind.max_containers >= kind.max_body_bytes else str(kind.max_containers)
        cells = [str(kind.type_code), link(kind), sender, size, most, attached]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def by_code(sender: type[Message]) -> list[type[Message]]:
    return sorted(kinds(sender), key=lambda kind: kind.type_code)


# --- records -------------------------------------------------------------------------------


def records(kind: type[Any]) -> Iterator[type[Any]]:
    """The records that fields of `kind` are made of, and so on, each once, as they appear."""
    seen: list[type[Any]] = []
    waiting = [field.type for field in msgspec.structs.fields(kind)]
    while waiting:
        hint = waiting.pop(0)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            if hint not in seen:
                seen.append(hint)
                yield hint
                waiting[:0] = [field.type for field in msgspec.structs.fields(hint)]
        else:
            waiting[:0] = get_args(hint)


def reachable(sender: type[Message]) -> list[type[Any]]:
    """The records within all messages of one sender, the messages themselves left out."""
    found = [record for kind in kinds(sender) for record in records(kind)]
    return [kind for kind in dict.fromkeys(found) if not issubclass(kind, Message)]


def chapters(of: Sequence[type[Any]]) -> str:
    return "\n\n".join(chapter(kind) for kind in of)


def chapter(kind: type[Any]) -> str:
    """One record: its name, what it is, its fields."""
    code = getattr(kind, "type_code", None)
    heading = f"### {kind.__name__}" if code is None else f"### {kind.__name__} ({code})"
    fields = msgspec.structs.fields(kind)
    tag = kind.__struct_config__.tag
    parts = [heading, PYTHONS_NIL.sub("nil", inspect.cleandoc(kind.__doc__ or ""))]
    if tag is not None:
        field = kind.__struct_config__.tag_field
        parts.append(f"Told apart by a field `{field}`, which is `{json.dumps(tag)}`.")
    if not fields:
        parts.append("It has no fields: an empty map.")
        return "\n\n".join(parts)
    is_array = kind.__struct_config__.array_like
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    if is_array:
        rows = ["| place | field | type | default | meaning |", "|---|---|---|---|---|"]
    for place, field in enumerate(fields):
        cells = [f"`{field.encode_name}`", shown(field.type), default(field)]
        cells.append(meaning(kind, field.name))
        rows.append("| " + " | ".join([str(place), *cells] if is_array else cells) + " |")
    return "\n\n".join([*parts, "\n".join(rows)])


def meaning(kind: type[Any], field: str) -> str:
    """Raises KeyError when the field has no words."""
    for base in kind.__mro__:
        words = DOCSTRINGS.get((base.__name__, field))
        if words is not None:
            return PYTHONS_NIL.sub("nil", words)
    raise KeyError(f"{kind.__name__}.{field} has no docstring in shared/messages")


def docstrings(source: str) -> Iterator[tuple[tuple[str, str], str]]:
    """The string after each annotated field, by class and field, on one line."""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                words = ast.literal_eval(after.value)
                yield (node.name, ast.unparse(field.target)), " ".join(words.split())


DOCSTRINGS = dict(
    chain.from_iterable(docstrings(path.read_text()) for path in DEFINITIONS.glob("*.py"))
)


# --- fields --------------------------------------------------------------------------------


def default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    return "nil" if value is None else f"`{json.dumps(value)}`"


def shown(hint: Any) -> str:
    """A type in the words of MessagePack, with its bounds."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return bounded(*inner)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(map(shown, inner))
    if origin is list:
        return f"array of {shown(inner[0])}"
    if origin is tuple:
        return f"array of {len(inner)}: {'; '.join(map(shown, inner))}"
    if origin is dict:
        return f"map of {shown(inner[0])} to {shown(inner[1])}"
    return PLAIN.get(hint) or link(hint)


def bounded(kind: Any, meta: msgspec.Meta) -> str:
    words = shown(kind)
    if meta.max_length is not None:
        words += f", {meta.max_length} at most"
    if meta.ge is not None:
        highest = f"{figure(meta.lt)} − 1" if meta.lt is not None else figure(meta.le)
        words += f" ({figure(meta.ge)} to {highest})"
    return words


def figure(value: float | None) -> str:
    assert value is not None
    if value < 0:
        return f"−{figure(-value)}"
    if value < EXACT_BELOW:
        return f"{value:g}"
    for base in (2, 10):
        power = round(math.log(value, base))
        if base**power == value:
            return f"{base}^{power}"
    raise AssertionError(f"{value} is no power of 2 or 10")


def link(kind: type[Any]) -> str:
    """To the record's chapter, by the anchor that Markdown readers make of its heading."""
    code = getattr(kind, "type_code", None)
    anchor = kind.__name__.lower() + ("" if code is None else f"-{code}")
    return f"[{kind.__name__}](#{anchor})"


def main() -> int:
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

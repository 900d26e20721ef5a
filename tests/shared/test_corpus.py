"""The bytes of the protocol are those of the corpus, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scripts.protocol_tables import reachable
from shared import wire
from shared.messages import Message, kinds

CORPUS = Path(__file__).parent / "corpus"
MESSAGES: list[dict[str, Any]] = json.loads((CORPUS / "messages.json").read_text())
MALFORMED: list[dict[str, Any]] = json.loads((CORPUS / "malformed.json").read_text())


def named(entries: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry["name"])


def as_json(value: Any) -> Any:
    """As the corpus writes it: JSON has no infinities."""
    match value:
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
        case float() if value == -float("inf"):
            return "-inf"
    return value


@named(MESSAGES)
def test_its_messages_are_understood_and_written_as_they_are(entry: dict[str, Any]) -> None:
    message, attachments = read(entry)
    assert type(message).__name__ == entry["type"]
    assert as_json(msgspec.to_builtins(message, str_keys=True)) == entry["fields"]
    assert [image.hex() for image in attachments] == entry["images"]
    assert [frame.hex() for frame in wire.encode(message)] == [entry["header"], entry["body"]]
    for other in entry.get("other_bodies", []):
        assert read({**entry, "body": other})[0] == message


def read(entry: dict[str, Any]) -> tuple[Message, list[wire.Buffer]]:
    frames = [entry["header"], entry["body"], *entry["images"]]
    return wire.decode([bytes.fromhex(frame) for frame in frames], Message)


@named(MALFORMED)
def test_what_is_malformed_is_refused_for_what_it_is(entry: dict[str, Any]) -> None:
    frames = [bytes.fromhex(frame) for frame in entry["frames"]]
    with pytest.raises(wire.ProtocolError) as refusal:
        wire.decode(frames, Message)
    is_version = isinstance(refusal.value, wire.VersionMismatch)
    assert ("version" if is_version else "malformed") == entry["refusal"]
    assert entry["reason"] in str(refusal.value)


def test_every_message_and_every_field_is_in_it() -> None:
    present: dict[type[Any], set[str]] = {}
    for entry in MESSAGES:
        for record in records(read(entry)[0]):
            told = {field.name for field in msgspec.structs.fields(record) if tells(record, field)}
            present.setdefault(type(record), set()).update(told)
    for kind in [*kinds(Message), *reachable(Message)]:
        assert present.get(kind, set()) == set(kind.__struct_fields__), kind


def records(value: Any) -> Iterator[msgspec.Struct]:
    """All that a message is made of, itself included."""
    if isinstance(value, msgspec.Struct):
        yield value
        value = [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, list | tuple):
        for item in value:
            yield from records(item)


def tells(record: msgspec.Struct, field: msgspec.structs.FieldInfo) -> bool:
    """Whether the record says anything in this field."""
    value = getattr(record, field.name)
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value != field.default_factory())
    return bool(value != field.default)

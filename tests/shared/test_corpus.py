"""The bytes of the protocol are those of the corpus, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared import wire
from shared.messages import Job, Message, kinds

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
    header, body = bytes.fromhex(entry["header"]), bytes.fromhex(entry["body"])
    images = [bytes.fromhex(image) for image in entry["images"]]
    message, attachments = wire.decode([header, body, *images], Message)
    assert type(message).__name__ == entry["type"]
    assert as_json(msgspec.to_builtins(message, str_keys=True)) == entry["fields"]
    assert attachments == images
    assert [frame.hex() for frame in wire.encode(message)] == [entry["header"], entry["body"]]
    for other in entry.get("other_bodies", []):
        assert wire.decode([header, bytes.fromhex(other), *images], Message)[0] == message


@named(MALFORMED)
def test_what_is_malformed_is_refused_for_what_it_is(entry: dict[str, Any]) -> None:
    frames = [bytes.fromhex(frame) for frame in entry["frames"]]
    with pytest.raises(wire.ProtocolError) as refusal:
        wire.decode(frames, Message)
    is_version = isinstance(refusal.value, wire.VersionMismatch)
    assert ("version" if is_version else "malformed") == entry["refusal"]
    assert entry["reason"] in str(refusal.value)


def test_every_message_and_every_field_of_one_is_in_it() -> None:
    present: dict[str, set[str]] = {}
    for entry in MESSAGES:
        present.setdefault(entry["type"], set()).update(entry["fields"])
        if "job" in entry["fields"] and isinstance(entry["fields"]["job"], dict):
            present.setdefault("Job", set()).update(entry["fields"]["job"])
    declared: list[type[msgspec.Struct]] = [*kinds(Message), Job]
    for kind in declared:
        assert present.get(kind.__name__) == set(kind.__struct_fields__)

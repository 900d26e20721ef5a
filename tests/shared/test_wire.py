"""Any message survives the wire; any bytes give a message or a ProtocolError, nothing else."""

from __future__ import annotations

import tracemalloc
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import messages as vocabulary
from shared import wire
from shared.messages import (
    ChatMessage,
    Deltas,
    FromGateway,
    FromWorker,
    Hello,
    ImageInfo,
    ImagePart,
    Job,
    Message,
    Sampling,
    Submit,
    TextPart,
    kinds,
)
from tests.imports import ROOT, TIERS


def job(**fields: object) -> Job:
    given_fields = {"id": "j.1", "answer_id": "j", "request_id": "r", "model": "m"}
    return Job(**{**given_fields, "stream": True, "sampling": Sampling(seed=1), **fields})  # type: ignore[arg-type]


# What MessagePack can carry, and what equals itself afterwards.
st.register_type_strategy(int, st.integers(-(2**63), 2**64 - 1))
st.register_type_strategy(float, st.floats(allow_nan=False))

JSON_OBJECTS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


def strategy_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Build a message type field by field, its optional ones too."""
    fields = {}
    hints = get_type_hints(kind, include_extras=True)
    for name in kind.__struct_fields__:
        hint = hints[name]
        if "Any" in str(hint):
            fields[name] = JSON_OBJECTS if "None" not in str(hint) else st.none() | JSON_OBJECTS
        else:
            fields[name] = values_of(hint)
    return st.builds(kind, **fields)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """The values that a field may hold, within the limits it declares."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return within(*arguments)
    if origin in (Union, UnionType):
        return st.one_of([values_of(member) for member in arguments])
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=5)
    if origin is dict:
        return st.dictionaries(*map(values_of, arguments), max_size=5)
    return st.from_type(hint)


def within(kind: type[Any], meta: msgspec.Meta) -> st.SearchStrategy[Any]:
    if kind is float:
        return st.floats(meta.ge, meta.le)
    if kind is not int:
        return values_of(kind)
    highest = meta.le if meta.lt is None else meta.lt - 1
    assert highest is not None
    return st.integers(int(meta.ge or 0), int(highest))


for declared in list(vars(vocabulary).values()):
    if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
        st.register_type_strategy(declared, strategy_of)


def messages() -> st.SearchStrategy[Message]:
    return st.one_of([st.from_type(kind) for kind in kinds(Message)])


@given(messages())
def test_every_message_survives(message: Message) -> None:
    frames = wire.encode(message)
    images = [b"image"] * message.attachments
    if len(images) <= wire.MAX_ATTACHMENTS:
        decoded, attachments = wire.decode([*frames, *images], Message)
        assert decoded == message
        assert attachments == images


@given(st.lists(st.binary(max_size=64), max_size=5))
def test_garbage_is_a_protocol_error(frames: list[bytes]) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.decode(frames, Message)


@given(st.sampled_from([kind.type_code for kind in kinds(Message)]), st.binary(max_size=200))
def test_a_right_header_with_any_body_is_a_message_or_a_protocol_error(
    code: int, body: bytes
) -> None:
    try:
        wire.decode([bytes((wire.VERSION, code)), body], Message)
    except wire.ProtocolError:
        pass


def test_every_code_is_of_one_message_and_one_direction() -> None:
    codes = [kind.type_code for kind in kinds(Message)]
    assert len(codes) == len(set(codes))
    assert {kind.type_code < 64 for kind in kinds(FromWorker)} == {True}
    assert {kind.type_code < 64 for kind in kinds(FromGateway)} == {False}


def test_a_message_of_the_other_side_is_refused() -> None:
    with pytest.raises(wire.ProtocolError, match="unknown message type 5"):
        wire.decode(wire.encode(Deltas(items=[])), FromGateway)


def test_another_version_is_told_apart() -> None:
    header, body = wire.encode(Deltas(items=[]))
    with pytest.raises(wire.VersionMismatch):
        wire.decode([bytes((99, header[1])), body], Message)


def test_fields_that_a_later_minor_version_adds_are_ignored() -> None:
    hello = Hello(worker="w", models=["m"], slots=1, stream_slots=1, state="ready")
    header, body = wire.encode(hello)
    fields = msgpack.unpackb(body) | {"from_the_future": 1}
    assert wire.decode([header, msgpack.packb(fields)], Message)[0] == hello


@pytest.mark.parametrize("attachments", [0, 2])
def test_as_many_attachments_as_images(attachments: int) -> None:
    image = ImageInfo(sha256="0", media_type="image/png", width_px=1, height_px=1)
    frames = wire.encode(Submit(job=job(images=[image]), budget_s=1.0))
    with pytest.raises(wire.ProtocolError, match="attachments"):
        wire.decode([*frames, *[b"x"] * attachments], Message)


def test_images_travel_outside_messagepack() -> None:
    content: list[TextPart | ImagePart] = [TextPart(text="what is this?"), ImagePart(index=0)]
    image = ImageInfo(sha256="0", media_type="image/png", width_px=1, height_px=1)
    turn = ChatMessage(role="user", content=content)
    submit = Submit(job=job(images=[image], messages=[turn]), budget_s=1.0)
    big = b"x" * 1_000_000
    frames = [*wire.encode(submit), big]
    assert len(frames[1]) < 1_000
    decoded, attachments = wire.decode(frames, Message)
    assert decoded == submit
    assert attachments[0] is big


@given(messages())
def test_other_implementations_of_messagepack_are_understood_and_understand(
    message: Message,
) -> None:
    kind = type(message)
    header, body = wire.encode(message)
    assert msgspec.msgpack.decode(body, type=kind) == message
    if message.attachments <= wire.MAX_ATTACHMENTS:
        frames = [header, msgspec.msgpack.encode(message), *[b"image"] * message.attachments]
        assert wire.decode(frames, Message)[0] == message


def test_token_ids_stay_numbers() -> None:
    biased = Submit(
        job=job(sampling=Sampling(seed=1, logit_bias={5: 1.0, 70_000: -2.5})), budget_s=1
    )
    decoded, _ = wire.decode(wire.encode(biased), Message)
    assert isinstance(decoded, Submit)
    assert decoded.job.sampling.logit_bias == {5: 1.0, 70_000: -2.5}


TIMESTAMP = msgpack.Timestamp(0, 0)
EXTENSION = msgpack.ExtType(5, b"x")


@pytest.mark.parametrize("value", [TIMESTAMP, EXTENSION, msgpack.ExtType(5, b"")])
@pytest.mark.parametrize("place", ["a free field", "a field of the future", "a typed field"])
def test_extensions_of_messagepack_are_refused(value: object, place: str) -> None:
    header, body = wire.encode(Submit(job=job(), budget_s=1.0))
    fields = msgpack.unpackb(body)
    match place:
        case "a free field":
            fields["job"]["template_options"] = {"now": value}
        case "a field of the future":
            fields["now"] = value
        case "a typed field":
            fields["budget_s"] = value
    with pytest.raises(wire.ProtocolError, match="ext"):
        wire.decode([header, msgpack.packb(fields)], Message)


@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 5_000 + b"\x00",  # deeper than it can be unpacked
        b"\x91" * 1_020 + b"\x00",
        b"\x81\xa5items" + b"\x91" * 1_000 + b"\x00",  # deeper than it can be checked
        b"\x81\x90\x00",  # a key that is an array
        b"\x81\x80\x00",
        b"\xdd\xff\xff\xff\xff",  # announces more than follows
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\xa5items\x91\x94\xa1j\xcf" + b"\xff" * 8 + b"\x00\x90",  # sequence 2^64 - 1
        b"\x81\xa5items\x91\x94\xa1\xff\x00\x00\x90",  # not UTF-8
        b"\x81\xa5items\x91\x94\xc4\x01j\x00\x00\x90",  # bytes for a text
        b"\x81\xa5items\x90\x00",  # something after the end
        b"\xc1",
        b"",
    ],
)
def test_bytes_that_are_no_message_are_a_protocol_error(body: bytes) -> None:
    with pytest.raises(wire.ProtocolError, match=r"malformed Deltas: ."):
        wire.decode([bytes((wire.VERSION, Deltas.type_code)), body], Message)


@pytest.mark.parametrize("kind", list(kinds(Message)))
def test_a_body_beyond_its_kinds_limit_is_not_even_read(kind: type[Message]) -> None:
    header = bytes((wire.VERSION, kind.type_code))
    with pytest.raises(wire.ProtocolError, match=f"at most {kind.max_body_bytes} bytes"):
        wire.decode([header, bytes(kind.max_body_bytes + 1)], Message)


def test_what_a_receiver_would_not_take_is_not_encoded() -> None:
    longest = job(prompt="x" * Submit.max_body_bytes)
    with pytest.raises(wire.MessageTooLong, match=f"at most {Submit.max_body_bytes} bytes"):
        wire.encode(Submit(job=longest, budget_s=1.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_finite(value: float) -> None:
    header, body = wire.encode(Submit(job=job(), budget_s=1.0))
    fields = msgpack.unpackb(body) | {"budget_s": value}
    with pytest.raises(wire.ProtocolError):
        wire.decode([header, msgpack.packb(fields)], Message)


@pytest.mark.parametrize("container", [b"\x90", b"\x80"])
def test_a_short_message_cannot_grow_large_in_memory(container: bytes) -> None:
    """Eight million empty lists would take half a gigabyte, and the collector seconds."""
    many = 8_000_000
    body = b"\x81\xa5items\xdd" + many.to_bytes(4, "big") + container * many
    tracemalloc.start()
    try:
        with pytest.raises(wire.ProtocolError, match="arrays and maps"):
            wire.decode([bytes((wire.VERSION, Deltas.type_code)), body], Message)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * len(body)


def test_a_job_may_have_as_many_lists_as_its_client_sends() -> None:
    many = [[]] * (Deltas.max_containers + 1)  # type: ignore[var-annotated]
    submit = Submit(job=job(template_options={"lists": many}), budget_s=1.0)
    assert wire.decode(wire.encode(submit), Message)[0] == submit


def test_nothing_else_knows_the_bytes() -> None:
    files = [path for tier in TIERS for path in (ROOT / tier).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if "msgpack" in path.read_text()] == [
        "shared/wire.py"
    ]

"""Data URLs: strict in what is decoded, generous in how it is announced."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.generation import ImageSource
from gateway.images.data_urls import SLICE_CHARACTERS, decode_data_url
from gateway.images.sources import InvalidImage, check_source
from tests.gateway.images.pictures import drawn


def decode(url: str, max_bytes: int = 10_000_000) -> bytes:
    return decode_data_url(ImageSource(url, "p"), max_bytes)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aGVsbG8=",
        "DATA:IMAGE/PNG;BASE64,aGVsbG8=",
        "data:;base64,aGVsbG8=",
        "data:image/png;charset=utf-8;base64,aGVsbG8=",
        "data:image/png;base64,aGVsbG8",
        "data:image/png; base64,aGVsbG8=",
        "data:image/png;base64, aGVsbG8=",
        "data:image/png;base64,aGVs\r\nbG8=\n",
        "data:image/png;base64,aGVs bG8=",
        "data:image/png;base64,aGVsbG8%3D",
        "data:image/png;base64,%61GVsbG8=%0A",
    ],
)
def test_announced_in_any_way(url: str) -> None:
    assert decode(url) == b"hello"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64",
        "data:image/png,hello",
        "data:image/png;base64x,aGVsbG8=",
        "data:image/png;base64,",
        "data:image/png;base64,====",
        "data:image/png;base64,a",
        "data:image/png;base64,aGVsbG8=aGVsbG8=",
        "data:image/png;base64,aGVsbG8=\naGVsbG8=",
        "data:image/png;base64,aGVs!G8=",
        "data:image/png;base64,aGVsbG8%",
        "data:image/png;base64,aGVsbG8%3",
        "data:image/png;base64,äöü=",
    ],
)
def test_all_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidImage):
        decode(url)


def test_the_alphabet_for_urls_means_the_same() -> None:
    assert decode("data:;base64,-_-_") == decode("data:;base64,+/+/") == b"\xfb\xff\xbf"


def test_size_is_judged_as_it_is_decoded() -> None:
    encoded = base64.b64encode(b"x" * 100).decode()
    assert decode(f"data:;base64,{encoded}", 100) == b"x" * 100
    with pytest.raises(InvalidImage):
        decode(f"data:;base64,{encoded}", 96)


def test_long_ones_are_decoded_in_slices() -> None:
    data = os.urandom(SLICE_CHARACTERS * 2)
    assert decode(f"data:;base64,{base64.b64encode(data).decode()}") == data
    assert decode(f"data:;base64,{base64.encodebytes(data).decode()}") == data


def test_what_a_slice_cuts_through_stays_whole() -> None:
    """Escapes of every character, so that slices end within each part of one."""
    encoded = base64.b64encode(os.urandom(SLICE_CHARACTERS // 2)).decode()
    escaped = "".join(f"%{ord(character):02X}" for character in encoded)
    for blanks in range(3):
        assert decode(f"data:;base64,{' ' * blanks}{escaped}") == base64.b64decode(encoded)


def test_padding_at_the_end_of_a_slice_is_an_end() -> None:
    slice_long = "A" * (SLICE_CHARACTERS - 2) + "=="
    assert decode(f"data:;base64,{slice_long}\n") == bytes(SLICE_CHARACTERS // 4 * 3 - 2)
    with pytest.raises(InvalidImage):
        decode(f"data:;base64,{slice_long}AAAA")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_base64_alone_is_known_by_what_it_holds(image_format: str) -> None:
    data = drawn(image_format)
    for encoded in (base64.b64encode(data), base64.encodebytes(data)):
        source = ImageSource(encoded.decode(), "p")
        check_source(source)
        assert decode_data_url(source, 1_000_000) == data


@pytest.mark.parametrize("url", ["/etc/passwd", "aGVsbG8=", "picture.png", "file:///a.png", "ä"])
def test_what_holds_no_picture_is_no_base64(url: str) -> None:
    with pytest.raises(InvalidImage, match="data URL"):
        check_source(ImageSource(url, "p"))


@given(st.binary(min_size=1, max_size=2000))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    assert decode(f"data:image/png;base64,{base64.b64encode(data).decode()}") == data

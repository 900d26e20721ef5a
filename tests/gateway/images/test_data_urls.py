"""Data URLs: strict in what is decoded, generous in how it is announced."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.generation import ImageSource
from gateway.images.data_urls import SLICE_CHARACTERS, decode_data_url
from gateway.images.sources import InvalidImage


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
        "data:image/png;base64,aGVs bG8=",
        "data:image/png;base64,aGVs\nbG8=",
        "data:image/png;base64,aGVsbG8=aGVsbG8=",
        "data:image/png;base64,aGVs!G8=",
        "data:image/png;base64,aGVsb-8_",
        "data:image/png;base64,%61GVsbG8=",
        "data:image/png;base64,äöü=",
    ],
)
def test_all_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidImage):
        decode(url)


def test_size_is_judged_before_decoding() -> None:
    encoded = base64.b64encode(b"x" * 100).decode()
    assert decode(f"data:;base64,{encoded}", 100) == b"x" * 100
    with pytest.raises(InvalidImage):
        decode(f"data:;base64,{encoded}", 96)


def test_long_ones_are_decoded_in_slices() -> None:
    data = os.urandom(SLICE_CHARACTERS * 2)
    assert decode(f"data:;base64,{base64.b64encode(data).decode()}") == data


@given(st.binary(min_size=1, max_size=2000))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    assert decode(f"data:image/png;base64,{base64.b64encode(data).decode()}") == data

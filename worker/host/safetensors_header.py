"""What a folder's safetensors files say of their tensors, without reading any."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INDEX = "model.safetensors.index.json"
NOT_LOADED = "consolidated.safetensors"
"""The same weights once more, in the form of those who trained it."""
MOST_HEADER_BYTES = 100_000_000
"""What the format allows."""
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Of an element of each type, as the format names them."""


class HeaderError(ValueError):
    """A file is not what it is called; the message names it."""


@dataclass(frozen=True)
class Tensor:
    """`dtype` as safetensors has it: F32, BF16, U32 (packed numbers of a quantized layer), ..."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * BITS[self.dtype] // 8


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors that are loaded from a model's folder, by name.

    Raises:
        HeaderError: there are none, or a file is damaged.
    """
    files = sorted(_files(folder))
    if not files:
        raise HeaderError(f"{folder.name} holds no safetensors")
    return {name: tensor for file in files for name, tensor in read_header(file)}


def has_tensors(folder: Path) -> bool:
    """Whether there is a file with tensors in it."""
    return next(_all_files(folder), None) is not None


def _files(folder: Path) -> set[Path]:
    """Those that the index names, as far as they are there, else all."""
    try:
        placed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        named = {folder / file for file in placed.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        named = set()
    return {file for file in named if file.is_file()} or set(_all_files(folder))


def _all_files(folder: Path) -> Iterator[Path]:
    found = folder.glob("*.safetensors")
    return (file for file in found if not file.name.endswith(NOT_LOADED))


def read_header(file: Path) -> Iterator[tuple[str, Tensor]]:
    """
    Raises:
        HeaderError: it is damaged.
    """
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > MOST_HEADER_BYTES:
                raise ValueError("its header is too long")
            text = opened.read(length)
            if len(text) < length:
                raise ValueError("it is cut off")
            header = json.loads(text)
        for name, told in header.items():
            if name != "__metadata__":
                if told["dtype"] not in BITS:
                    raise ValueError(f"it has numbers of an unknown type, {told['dtype']}")
                yield name, Tensor(told["dtype"], tuple(map(int, told["shape"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeaderError(f"{file.name} cannot be read as safetensors: {error}") from error

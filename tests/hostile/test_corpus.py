"""Every input that fuzzing has kept, or that has once broken a door, goes through it again.

`scripts/fuzz DOOR --seconds 300 --keep` adds to the corpus.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.fuzz.doors import DOORS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_the_corpus_passes(door: str) -> None:
    inputs = sorted((CORPUS / door).iterdir())
    assert inputs
    for path in inputs:
        try:
            DOORS[door](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{door}: {path.name}") from error

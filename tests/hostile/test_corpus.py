"""Every input that fuzzing has kept, or that has once broken a target, goes through it again.

`scripts/fuzz TARGET --seconds 300 --keep` adds to the corpus.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_the_corpus_passes(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{target}: {path.name}") from error

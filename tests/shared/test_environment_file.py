"""`.env` is read as honcho reads it; what it cannot mean is said by its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from honcho.environ import parse

from shared.environment_file import FILE, HONCHO_PROCESS, enter, read
from shared.settings import SettingsError

LINES = """\
# a comment
A=1

B = 'two words'  # why
export C=3
D: 4
E=
F="a b"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(HONCHO_PROCESS, raising=False)
    (tmp_path / FILE).write_text(LINES)
    return tmp_path / FILE


def test_it_means_what_it_means_to_honcho(file: Path) -> None:
    found = read(file)
    assert found.values == parse(LINES) == {"A": "1", "B": "two words", "F": "a b"}
    assert found.meaningless == [5, 6]


def test_none_sets_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / FILE).values == {}


@pytest.mark.parametrize(
    ("content", "said"), [(b"A=1\nB='2", r"\.env, line 2: No closing"), (b"\xff", "cannot be read")]
)
def test_what_cannot_be_read_is_said_in_one_line(
    file: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        read(file)
    with pytest.raises(SystemExit) as ended:
        enter()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_tier_reads_that_of_its_folder_unless_honcho_has(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"A": "0", HONCHO_PROCESS: "worker.1"})
    enter()
    assert os.environ["A"] == "0"
    del os.environ[HONCHO_PROCESS]
    enter()
    assert os.environ["A"] == "1"

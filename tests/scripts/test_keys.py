"""`scripts/keys` makes what is missing and replaces nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import zmq.auth

from scripts.keys import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["scripts/keys", "mac", "--folder", str(tmp_path / "keys")])
    assert main() == 0
    return tmp_path / "keys"


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_second_call_changes_nothing(folder: Path) -> None:
    before = contents(folder)
    assert set(before) == {
        "gateway.key",
        "gateway.key_secret",
        "mac.key_secret",
        "authorized/mac.key",
    }
    assert main() == 0
    assert contents(folder) == before


def test_the_gateways_public_key_is_made_again_from_its_secret(folder: Path) -> None:
    pair = zmq.auth.load_certificate(folder / "gateway.key_secret")
    (folder / "gateway.key").unlink()
    assert main() == 0
    assert zmq.auth.load_certificate(folder / "gateway.key_secret") == pair
    assert zmq.auth.load_certificate(folder / "gateway.key") == (pair[0], None)


def test_a_worker_whose_secret_was_moved_to_it_keeps_its_key(folder: Path) -> None:
    (folder / "mac.key_secret").unlink()
    before = contents(folder)
    assert main() == 0
    assert contents(folder) == before


def test_they_are_made_where_the_gateway_looks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CURVE_KEY", str(tmp_path / "safe" / "gateway.key_secret"))
    monkeypatch.setattr(sys, "argv", ["scripts/keys", "mac"])
    assert main() == 0
    assert "mac.key_secret" in contents(tmp_path / "safe")


@pytest.mark.parametrize("gone", ["gateway.key_secret", "authorized/mac.key"])
def test_what_only_the_user_can_know_is_asked(
    folder: Path, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that was shut out does not come in again with the key that it has."""
    (folder / gone).unlink()
    before = contents(folder)
    assert main() == 1
    assert gone in capsys.readouterr().err
    assert contents(folder) == before

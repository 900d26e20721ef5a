"""A proof is made once for what it is about, and again when anything of that has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.engine.load import load_engine
from worker.engine.model.family import Abilities
from worker.engine.options import EngineOptions
from worker.engine.proof import remembered
from worker.engine.proof.proof import Proof

SOME = Proof(
    Abilities().without("batching"),
    {"text": True, "batching": False},
    {"batching": "why"},
    4096,
    1.5,
)


@pytest.fixture
def proved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were proven, in order; each is served without batching."""
    models: list[str] = []

    def prove(engine: Any, options: EngineOptions, trying: Any) -> Proof:
        models.append(options.model_path)
        return SOME

    monkeypatch.setattr("worker.engine.load.prove", prove)
    return models


def started(model: Path, cache: Path) -> Any:
    options = EngineOptions(model_path=str(model), proof_cache=str(cache))
    return load_engine(options, lambda part: None, lambda: None)


def test_a_second_start_goes_by_the_first_ones_proof(
    checkpoint: Callable[[str], Path], tmp_path: Path, proved: list[str]
) -> None:
    model = checkpoint("llama")
    first, second = (started(model, tmp_path / "proofs") for _ in range(2))
    assert proved == [str(model)]
    for engine in (first, second):
        assert engine.model.abilities == SOME.abilities
        assert engine.facts.proven == {"text": True, "batching": False}


def test_another_model_is_proven_anew(
    checkpoint: Callable[[str], Path], tmp_path: Path, proved: list[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(checkpoint("llama"), model)
    started(model, tmp_path / "proofs")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 20000.0}))
    started(model, tmp_path / "proofs")
    assert len(proved) == 2


def test_what_a_proof_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "weights").write_bytes(bytes(remembered.WHOLE_BYTES + 1))
    names = {remembered.digest(tmp_path)}
    assert remembered.digest(tmp_path) in names
    names.add(remembered.digest(tmp_path, trust_remote_code=True))
    (tmp_path / "weights").write_bytes(bytes(remembered.WHOLE_BYTES + 2))
    names.add(remembered.digest(tmp_path))
    monkeypatch.setattr(remembered, "versions", lambda: {"mlx": "next"})
    names.add(remembered.digest(tmp_path))
    monkeypatch.setattr(remembered, "device_name", lambda: "another")
    names.add(remembered.digest(tmp_path))
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "engine.py").write_text("1")
    monkeypatch.setattr(remembered, "SOURCES", tmp_path / "sources")
    names.add(remembered.digest(tmp_path))
    assert len(names) == 6


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"abilities": {"magic": true}}', "\udc80"])
def test_what_cannot_be_read_is_no_proof(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert remembered.recall(file) is None


def test_a_proof_comes_back_as_it_went(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.json"
    assert remembered.recall(file) is None
    remembered.remember(file, SOME)
    assert remembered.recall(file) == SOME


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remembered.remember(tmp_path / "file" / "x.json", SOME)


def test_the_oldest_of_many_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 2)
    for name in ("a", "b", "c"):
        remembered.remember(tmp_path / f"{name}.json", SOME)
    assert len(list(tmp_path.iterdir())) == 2 and (tmp_path / "c.json").exists()


def test_it_lies_where_the_user_keeps_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert remembered.folder("") == Path("/caches/proxy-oai-compat/proofs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert remembered.folder("") == Path.home() / ".cache/proxy-oai-compat/proofs"
    assert remembered.folder("/here") == Path("/here")

"""A model that is not here yet: a small hub on this machine, and none at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, point_at, serving_hub
from tests.waiting import free_port
from worker.engine.interface import ModelError, ModelUnavailable
from worker.engine.model.download import resolve_folder

FILES = {"config.json": b"{}", "model.safetensors": b"x" * 300_000, "b.safetensors": b"y" * 700_000}
UNWANTED = {"model.gguf": b"z" * 900_000}
CODE = {"modeling.py": b"print('it runs')"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(Hub, "everything", FILES | UNWANTED | CODE)
    with serving_hub() as port:
        point_at(monkeypatch, tmp_path, port)
        yield


@pytest.mark.usefixtures("hub")
def test_a_download_tells_how_far_it_is_and_never_goes_back() -> None:
    told: list[tuple[int, int]] = []
    folder = resolve_folder("someone/model", lambda *progress: told.append(progress))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert told == sorted(told)
    whole = sum(map(len, FILES.values()))
    assert {total for _, total in told} == {whole} and told[-1][0] == whole
    told.clear()
    assert resolve_folder("someone/model", lambda *progress: told.append(progress)) == folder
    assert told == []


@pytest.mark.usefixtures("hub")
def test_a_models_python_is_fetched_only_where_it_is_trusted() -> None:
    folder = resolve_folder("someone/model", lambda done, total: None)
    assert not list(folder.glob("*.py"))
    folder = resolve_folder("someone/model", lambda done, total: None, trust_remote_code=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES | CODE


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_does_not_have_is_hopeless() -> None:
    with pytest.raises(ModelError, match="The hub has no model"):
        resolve_folder("someone/else", lambda done, total: None)


def test_a_hub_that_is_away_is_hopeless_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_at(monkeypatch, tmp_path, free_port())
    with pytest.raises(ModelError, match=r"someone/model .* hub cannot be reached") as caught:
        resolve_folder("someone/model", lambda done, total: None)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_what_was_fetched_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = resolve_folder("someone/model", lambda done, total: None)
    point_at(monkeypatch, tmp_path, free_port())
    assert resolve_folder("someone/model", lambda done, total: None) == folder


@pytest.mark.usefixtures("hub")
def test_a_download_that_breaks_off_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "withheld", "model.safetensors")
    with pytest.raises(ModelUnavailable, match="someone/model cannot be downloaded now") as caught:
        resolve_folder("someone/model", lambda done, total: None)
    assert "\n" not in str(caught.value)

"""`scripts/models plan` says what fits, and in one sentence why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from scripts.checkpoints.building import build
from scripts.model_plan import PlanError, make_plan
from tests.hub import Hub, point_at, serving_hub
from worker.settings import BUILT_IN_MODEL

WEIGHTS = "model.safetensors"


def test_a_plan_says_what_fits_and_what_does_not() -> None:
    plan = make_plan(str(BUILT_IN_MODEL), budget_gib=0.1)
    assert plan.fits
    assert plan.slots(2048) == (plan.budget_bytes - plan.found.weight_bytes) // (2048 * 6144)
    assert plan.lines()[-1].endswith("x 32,768 tokens")
    for too_little in (0.02, 0.001):
        plan = make_plan(str(BUILT_IN_MODEL), budget_gib=too_little)
        assert not plan.fits
        assert plan.lines()[-1] == "It does not fit."


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


@pytest.mark.parametrize("harm", [no_config, no_weights, damaged])
def test_a_damaged_folder_is_one_sentence(harm: Callable[[Path], None], tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "model")
    harm(folder)
    with pytest.raises(PlanError) as told:
        make_plan(str(folder), budget_gib=1.0)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere", "no model at nowhere: it is neither a folder nor a hub id"),
        ("/nope", "no folder /nope"),
        ("./some/model", r"no folder \./some/model"),
        ("~nobody/model", "no folder ~nobody/model"),
        ("a/b c", "no model at a/b c"),
    ],
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_named(model: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        make_plan(model, budget_gib=1.0)


def test_a_model_of_the_hub_is_planned_by_its_headers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {name: (BUILT_IN_MODEL / name).read_bytes() for name in ("config.json", WEIGHTS)}
    monkeypatch.setattr(Hub, "everything", files)
    monkeypatch.setattr(Hub, "sent_bytes", 0)
    with serving_hub() as port:
        point_at(monkeypatch, tmp_path, port)
        plan = make_plan("someone/model", budget_gib=0.1)
        assert plan.found == make_plan(str(BUILT_IN_MODEL), budget_gib=0.1).found
        assert Hub.sent_bytes < len(files[WEIGHTS]) / 50
        with pytest.raises(PlanError, match="The hub has no model someone/else"):
            make_plan("someone/else", budget_gib=0.1)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(PlanError, match="offline"):
            make_plan("someone/model", budget_gib=0.1)

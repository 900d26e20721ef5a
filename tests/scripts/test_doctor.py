"""The doctor finds what is wrong, says so in plain words and tells how to mend it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from scripts.doctor_checks.__main__ import main
from scripts.doctor_checks.catalogue import check_catalogue, has_catalogue
from scripts.doctor_checks.findings import Finding
from scripts.doctor_checks.machine import check_machine, check_packages, satisfies
from scripts.doctor_checks.model import (
    BUILT_IN_MODEL,
    cache_bytes_a_token,
    check_model,
    check_served_model,
)
from scripts.doctor_checks.picture import judge, model_to_ask
from scripts.doctor_checks.proof import check_proof
from scripts.doctor_checks.service import Service, check_service
from scripts.own_server import OwnServer
from tests.processes import ROOT, serving
from tests.waiting import await_condition, free_port

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(BUILT_IN_MODEL, copy)
    return copy


def told(findings: Iterable[Finding]) -> str:
    return "\n".join(f"{finding}" for finding in findings)


def problems(findings: Iterable[Finding]) -> list[Finding]:
    wrong = [finding for finding in findings if finding.wrong]
    assert all(finding.remedy for finding in wrong), "a problem without its remedy"
    return wrong


def test_a_good_model_is_complete_and_fits(model: Path) -> None:
    findings = list(check_model(model))
    assert not problems(findings) and "fits" in told(findings)


@pytest.mark.mlx
def test_a_model_is_proven_in_full() -> None:
    findings = list(check_proof(BUILT_IN_MODEL))
    assert not problems(findings) and "note" not in told(findings)
    for ability in ("text", "pictures", "several_pictures", "prefix_cache", "batching"):
        assert f"mlx-vlm's own: {ability}\n" in told(findings)


@pytest.mark.mlx
def test_a_model_that_mlx_vlm_cannot_load_is_no_crash(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    assert "unheard_of" in told(problems(check_proof(model)))


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    assert name.partition(".")[2] in told(problems(check_model(model)))


def test_no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "tokenizer" in told(problems(check_model(model)))


def test_weights_cut_off_in_the_download(model: Path) -> None:
    weights = model / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cut off" in told(problems(check_model(model)))


def test_weights_that_are_only_a_pointer(model: Path) -> None:
    (model / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "damaged" in told(problems(check_model(model)))


def test_a_part_that_the_index_lists_is_missing(model: Path) -> None:
    index = {"weight_map": {"a": WEIGHTS, "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "missing: model-2.safetensors" in told(problems(check_model(model)))


def test_a_model_larger_than_memory(model: Path) -> None:
    assert "does not fit" in told(problems(check_model(model, memory=1_000_000)))


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no folder" in told(problems(check_model(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("served", "said", "wrong"),
    [
        ("", "complete", False),
        ("mine", "mine/config.json is missing", True),
        ("./gone", "no folder", True),
        ("mlx-community/some-4bit", "from the hub", False),
    ],
)
def test_the_model_that_is_served_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: str, said: str, wrong: bool
) -> None:
    monkeypatch.delenv("WORKER_MODEL_PATH", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / ".env").write_text(f"WORKER_MODEL_PATH={served}\n")
    findings = list(check_served_model(OwnServer(tmp_path)))
    assert said in told(findings)
    assert bool(problems(findings)) is wrong


MODELS_FILE = """
[models.mine]
path = "./mine"
[models.far]
path = "mlx-community/some-4bit"
[models.demo]
pin = true
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a worker with a folder of models and a file that names more."""
    for name in ("WORKER_MODEL_PATH", "WORKER_MODELS", "WORKER_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "models" / "no-model").mkdir(parents=True)
    (tmp_path / "models" / "demo").symlink_to(BUILT_IN_MODEL)
    (tmp_path / "models.toml").write_text(MODELS_FILE)
    (tmp_path / ".env").write_text("WORKER_MODELS_DIR=models\nWORKER_MODELS=models.toml\n")
    return tmp_path


def test_every_model_of_a_catalogue_is_looked_at(settings: Path) -> None:
    assert has_catalogue(OwnServer(settings))
    findings = list(check_catalogue(OwnServer(settings)))
    said = told(findings)
    assert "demo: The model's folder is complete" in said
    assert "far: mlx-community/some-4bit comes from the hub" in said
    assert "no-model" not in said
    assert "mine: There is no folder" in told(problems(findings))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("models.toml", "[models.a", "models.toml cannot be read"),
        (".env", "WORKER_MODELS_DIR=none", "no folder"),
        (".env", "WORKER_MODEL_PATH=models/demo,mine=models/not/there", "mine: There is no folder"),
    ],
)
def test_a_catalogue_that_no_worker_takes(settings: Path, file: str, text: str, said: str) -> None:
    (settings / file).write_text(text)
    assert said in told(problems(check_catalogue(OwnServer(settings))))


def test_a_catalogue_without_models_is_worth_a_note(settings: Path) -> None:
    (settings / ".env").write_text("WORKER_MODELS_DIR=models/no-model")
    assert "no model in the worker's list" in told(check_catalogue(OwnServer(settings)))


def test_the_cache_of_grouped_heads() -> None:
    config = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    assert cache_bytes_a_token(config) == 2 * 3 * 64 * 2
    assert cache_bytes_a_token(config | {"num_key_value_heads": 1}) == 2 * 3 * 16 * 2


def test_packages(tmp_path: Path) -> None:
    assert not problems(check_packages())
    asked = tmp_path / "requirements.txt"
    asked.write_text("httpx>=99\nno-such-package==1  # why\nmlx==1; sys_platform == 'plan9'\n")
    words = told(problems(check_packages(asked)))
    assert "httpx is" in words and "no-such-package is not installed" in words


@pytest.mark.parametrize(
    ("installed", "wanted", "holds"),
    [
        ("1.10.2", ">=1.9,<2", True),
        ("2.0", ">=1.9,<2", False),
        ("2", "==2.0.0", True),
        ("0.32.3", "==0.32.4", False),
    ],
)
def test_versions(installed: str, wanted: str, holds: bool) -> None:
    assert satisfies(installed, wanted) is holds


def test_rosetta_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.processor", lambda: "i386")
    assert "Rosetta" in told(problems(check_machine()))


def test_a_port_taken_by_a_stranger() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0)
        service = Service(f"http://127.0.0.1:{stranger.getsockname()[1]}", None)
        assert "is taken" in told(problems(check_service(service, free_port(), needed=False)))


def test_no_gateway_is_wrong_only_for_who_wants_an_answer() -> None:
    service = Service(f"http://127.0.0.1:{free_port()}", None)
    assert not problems(check_service(service, free_port(), needed=False))
    assert "scripts/serve" in told(problems(check_service(service, free_port(), needed=True)))


def test_a_running_service_is_asked_about_a_picture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(gateway_flags=("--api-key", "k"), workers=0) as running:
        running.client.headers["Authorization"] = "Bearer k"
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("no_proxy", "")
        host = Service(running.url, "k")
        await_condition(lambda: host.ask("/health")[0] == 200, "the gateway's start")
        assert main(["--url", running.url]) == 1
        assert "--key" in capsys.readouterr().out
        assert main(["--url", running.url, "--key", "k"]) == 1
        assert "not ready" in capsys.readouterr().out
        running.add_worker()
        running.await_ready(1)
        assert main(["--url", running.url, "--key", "k", "--run"]) == 0
        said = capsys.readouterr().out
        assert "A picture was answered:" in said
        assert "It took" in said


def listed(name: str, status: str, vision: bool | None) -> dict[str, object]:
    facts = {"status": {"value": status}, "capabilities": {"vision": vision}}
    return {"id": name, "aliases": [], **facts}


def test_of_several_models_one_that_can_see_is_asked() -> None:
    far, broken = listed("far", "unloaded", None), listed("broken", "failed", None)
    blind, sees = listed("blind", "loaded", False), listed("sees", "loaded", True)
    assert model_to_ask([blind, broken, far, sees]) == "sees"
    assert model_to_ask([blind, broken, far]) == "far"
    assert model_to_ask([sees, {**sees, "id": "alias", "aliases": ["alias"]}]) is None


GOOD = {"preprocess_s": 0.1, "vision_s": 0.2, "prefill_s": 0.3, "decode_s": 1.0, "total_s": 1.6}


@pytest.mark.parametrize(
    ("slow", "words"),
    [
        ({}, ""),
        ({"decode_s": 6.0}, "1.5 tokens a second"),
        ({"prefill_s": 8.0}, "Reading the prompt"),
        ({"vision_s": 8.0}, "Looking at the picture"),
    ],
)
def test_what_is_slow_is_named(slow: dict[str, float], words: str) -> None:
    _, *notes = judge(total_s=20.0, tokens=10, timings=GOOD | slow)
    assert [words in str(finding) for finding in notes] == [True] * bool(words)


def test_the_launcher_works_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "doctor", "--model-path", tmp_path / "gone"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no folder" in done.stdout, done.stderr

"""The worker's flags: what cannot work is refused with one line, and not tried for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq.auth

from shared.settings import load
from worker.main import name_of
from worker.settings import Settings


def loaded(*flags: str) -> Settings:
    return load(Settings, "WORKER", flags, {})


@pytest.mark.parametrize(
    "flags",
    [
        ["--gateway", "localhost:5555"],
        ["--gateway", "tcp://mac-1.local"],
        ["--gateway", "tcp://mac-1.local:*"],
        ["--gateway", "tcp://mac-1.local:70000"],
        ["--gateway", "tcp://:5555"],
        ["--gateway", "tcp://*:5555"],
        ["--gateway", "tcp:// mac-1:5555"],
        ["--gateway", "tcp://someone@mac-1:5555"],
        ["--gateway", "tcp://mac-1/path:5555"],
        ["--gateway", "tcp://-mac:5555"],
        ["--gateway", "tcp://m\u00e4c:5555"],
        ["--gateway", "ipc://"],
        ["--gateway", "ipc://@"],
        ["--gateway", "ipc://*"],
        ["--gateway", "ipc:///tmp/" + "x" * 120],
        ["--max-streams", "4097"],
        ["--speculate", "on"],
        ["--speculate", ""],
        ["--speculate", "/nowhere/drafter"],
        ["--speculate", "~nobody-of-that-name/drafter"],
        ["--speculate", str(Path(__file__).parent)],
        ["--model-path", "=org/name"],
        ["--model-path", "mine="],
        ["--served-model-name", "a", "--model-path", "b/c", "--model-path", "d/e"],
        ["--served-model-name", "a" * 257],
        ["--served-model-name", "a\nb"],
        ["--served-model-name", *f"{' --served-model-name '.join('abcdefgh' * 9)}".split()],
        ["--name", "a" * 257],
        ["--name", "a" * 101, "--model-path", "b/c", "--model-path", "d/e"],
        ["--name", "\x1b[31m"],
        ["--memory-budget-gib", "inf"],
        ["--worker-key", "missing"],
        ["--worker-key", "missing", "--gateway-key", "missing"],
    ],
    ids=" ".join,
)
def test_bad_settings_stop_the_start_with_one_line(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        loaded(*flags)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert flags[0] in message


def test_gateways_may_be_named_in_every_way_that_connects() -> None:
    endpoints = (
        "tcp://mac-1.local:5555",
        "tcp://my_service:5555",
        "tcp://[fe80::1%en0]:5555",
        "ipc:///tmp/workers",
        "ipc://@workers",
    )
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        for endpoint in endpoints:
            socket.connect(endpoint)
    flags = [flag for endpoint in endpoints for flag in ("--gateway", endpoint)]
    assert loaded(*flags).gateway == endpoints


def test_each_key_must_be_of_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "mac-2")
    loaded("--worker-key", secret, "--gateway-key", public)
    with pytest.raises(SystemExit):
        loaded("--worker-key", public, "--gateway-key", public)
    assert "the secret one is wanted" in capsys.readouterr().err
    junk = tmp_path / "junk"
    junk.write_text("not a key")
    with pytest.raises(SystemExit):
        loaded("--worker-key", secret, "--gateway-key", str(junk))
    assert f"--gateway-key: {junk}" in capsys.readouterr().err


def test_workers_of_one_honcho_never_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HONCHO_PROCESS_NAME", raising=False)
    assert name_of(loaded("--name", "mac")) == "mac"
    names = []
    for role in ("worker.1", "worker.2", "worker.3"):
        monkeypatch.setenv("HONCHO_PROCESS_NAME", role)
        names.append(name_of(loaded("--name", "mac")))
    assert names == ["mac", "mac-2", "mac-3"]


def test_a_folder_below_home_gives_its_own_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models" / "qwen").mkdir(parents=True)
    assert loaded("--model-path", "~/models/qwen").model_names == ("qwen",)
    nobodys = "~nobody-of-that-name/qwen"
    assert loaded("--model-path", nobodys).model == nobodys, "it is not found, which is said later"


def test_one_model_may_be_given_a_name_and_several_make_a_host(tmp_path: Path) -> None:
    odd = tmp_path / "a=b, c"
    odd.mkdir()
    one = loaded("--model-path", "mine=org/name")
    assert (one.model, one.model_names, one.is_host) == ("org/name", ("mine",), False)
    assert loaded("--model-path", str(odd)).model_names == ("a=b, c",)
    assert loaded("--model-path", f"mine={odd}").named_paths == [("mine", str(odd))]
    assert loaded("--model-path", "").model_names == ("demo",)
    assert loaded("--model-path", "a/b", "--model-path", "c/d").is_host
    told = load(Settings, "WORKER", [], {"WORKER_MODEL_PATH": "/My Models/q, mine=org/name"})
    assert told.named_paths == [("/My Models/q", "/My Models/q"), ("mine", "org/name")]

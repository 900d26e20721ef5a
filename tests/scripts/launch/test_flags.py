"""The flags of `scripts/serve` say to the tiers what the user said."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from scripts.launch.flags import FILES, FOLDER_OR_HUB_ID, flag_targets, flags_help, read_flags
from scripts.launch.mistakes import oddities
from scripts.launch.ready import ready_line
from scripts.launch.serve import main
from shared.environment_file import read


def environment(here: Path, *argv: str) -> dict[str, str]:
    return read_flags(argv, here).environment


@pytest.mark.parametrize("flag", ["--api-key", "--served-model-name", "--allowed-host", "--bind"])
@pytest.mark.parametrize("value", ["a,b", "a b", "a\tb", ""])
def test_a_value_that_would_become_several_or_none_is_refused(
    tmp_path: Path, flag: str, value: str
) -> None:
    with pytest.raises(ValueError, match=flag) as refused:
        environment(tmp_path, flag, value)
    assert "\n" not in str(refused.value)


def test_a_refused_key_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--api-key-file") as refused:
        environment(tmp_path, "--api-key=sesame,open")
    assert "sesame" not in str(refused.value)


def test_a_repeated_flag_gives_several_values(tmp_path: Path) -> None:
    assert environment(tmp_path, "--api-key", "a", "--api-key=b") == {"GATEWAY_API_KEY": "a b"}


def test_files_are_those_of_the_folder_one_is_in(tmp_path: Path) -> None:
    assert set(flag_targets()) >= FILES | {FOLDER_OR_HUB_ID}
    for flag in FILES:
        assert list(environment(tmp_path, flag, "a b/k").values()) == [f"{tmp_path}/a b/k"]
        assert list(environment(tmp_path, flag, "/k").values()) == ["/k"]


def test_a_model_is_a_folder_where_there_is_one_and_else_a_hub_id(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for value, model in {
        "mine/model": f"{tmp_path}/mine/model",
        "hub/model": "hub/model",
        "": "",
        "name=mine/model": f"name={tmp_path}/mine/model",
        "name=hub/model": "name=hub/model",
    }.items():
        assert environment(tmp_path, "--model-path", value) == {"WORKER_MODEL_PATH": model}
    (tmp_path / "a b").mkdir()
    both = environment(tmp_path, "--model-path", "a b", "--model-path=x=hub/model")
    assert both == {"WORKER_MODEL_PATH": f"{tmp_path}/a b,x=hub/model"}
    with pytest.raises(ValueError, match="no comma,"):
        environment(tmp_path, "--model-path", "/models/a,b")


def test_a_socket_is_in_the_folder_one_is_in(tmp_path: Path) -> None:
    for value, endpoint in {
        "ipc://run/s": f"ipc://{tmp_path}/run/s",
        "ipc:///run/s": "ipc:///run/s",
        "ipc://@s": "ipc://@s",
    }.items():
        assert environment(tmp_path, "--bind", value) == {"GATEWAY_BIND": endpoint}
    with pytest.raises(ValueError, match="--bind"):
        environment(tmp_path / "a b", "--bind", "ipc://s")


def test_a_key_file_is_read_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLED_FROM", str(tmp_path))
    assert main(["--api-key-file", "missing"]) == 2
    told = capsys.readouterr()
    assert f"{tmp_path}/missing" in told.err and told.err.count("\n") == 1
    assert not told.out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--port", "abc"], "--port: expected a whole number, got 'abc'"),
        (["--max-streams=-1"], "--max-streams: must be at least 0"),
        (["--log-level", "loud"], "--log-level: expected one of"),
        (["--prot", "9000"], "unknown flag --prot; is --port meant?"),
        (["mlx-community/some-4bit"], "--model-path mlx-community/some-4bit"),
        (["--port"], "--port needs a value"),
        (["--workers", "two"], "--workers: expected a number"),
        (["--api-key", ""], "--api-key needs a value"),
    ],
)
def test_what_was_typed_wrongly_is_named_as_it_was_typed(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(typed))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("scripts/serve: ") and said in told and told.count("\n") == 1


def test_what_the_file_says_in_vain_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PROT=9000\nWORKER: 2\nHF_TOKEN=secret\n")
    told = list(oddities(read(tmp_path / ".env")))
    assert told == [
        ".env, line 2, sets nothing: NAME=VALUE is expected",
        ".env sets GATEWAY_PROT, which nothing reads; is GATEWAY_PORT meant?",
    ]


def test_help_tells_what_a_start_without_flags_does() -> None:
    told = " ".join(flags_help().split())
    for flag, targets in flag_targets().items():
        if not flag.startswith("--no-"):
            for target in targets:
                assert re.search(
                    rf"{flag} [^\[]*\[default: [^;]+; environment: {target.variable}\]", told
                )
    assert "[default: 8; environment: WORKER_MAX_CONCURRENCY]" in told


def test_the_curl_it_prints_survives_a_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = Path("/Users/a b/it's/example.json")
    monkeypatch.setattr("scripts.launch.ready.EXAMPLE", example)
    said = ready_line("http://[::1]:8000", wants_key=False, seconds=1.0)
    assert said.startswith("Ready after 1.0 s: open http://[::1]:8000 in a browser, or try: curl")
    words = shlex.split(said.partition("try: ")[2])
    assert words[2] == "http://[::1]:8000/v1/chat/completions"
    assert words[-1] == f"@{example}"
    said = ready_line("http://[::1]:8000", wants_key=False, seconds=1.0, model="it's")
    assert json.loads(shlex.split(said)[-1])["model"] == "it's"

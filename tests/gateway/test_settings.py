"""The gateway's flags: what cannot work is refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq.auth

from gateway.settings import Settings, read_api_keys
from shared.settings import SettingsError, load


def loaded(*flags: str, **environment: str) -> Settings:
    return load(Settings, "GATEWAY", flags, environment)


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "65536"],
        ["--port", "http"],
        ["--queue-size", "-1"],
        ["--queue-timeout", "0"],
        ["--bind", "localhost:5555"],
        ["--bind", "udp://127.0.0.1:5555"],
        ["--bind", "tcp://0.0.0.0:5555"],
        ["--bind", "tcp://*:5555"],
        ["--bind", "tcp://192.168.0.1:5555"],
        ["--bind", "tcp://127.0.0.1"],
        ["--bind", "tcp://::1:5555"],
        ["--bind", "ipc:///tmp/" + "x" * 120],
        ["--max-images", "65"],
        ["--curve-key", "key"],
        ["--authorized-workers", "keys"],
        ["--curve-key", "missing", "--authorized-workers", "tests"],
        ["--cors-origin", "example.com"],
        ["--log-level", "loud"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_bad_settings_stop_the_start_with_one_line(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        loaded(*flags)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--bind", "ipc:///tmp/workers"],
        ["--bind", "tcp://localhost:5555", "--bind", "tcp://[::1]:5555"],
        ["--bind", "tcp://0.0.0.0:5555", "--insecure-bind"],
    ],
    ids=" ".join,
)
def test_safe_worker_ports_pass(flags: list[str]) -> None:
    loaded(*flags)


def test_keys_open_the_worker_port_to_other_machines(tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "gateway")
    encrypted = ["--bind", "tcp://*:5555", "--authorized-workers", str(tmp_path)]
    assert loaded(*encrypted, "--curve-key", secret).curve_key == secret
    for unfit in (public, str(tmp_path / "missing"), str(tmp_path)):
        with pytest.raises(SystemExit):
            loaded(*encrypted, "--curve-key", unfit)
    with pytest.raises(SystemExit):
        loaded(*encrypted[:3], str(tmp_path / "none"), "--curve-key", secret)


def test_a_flag_wins_over_the_environment() -> None:
    assert loaded(GATEWAY_QUEUE_SIZE="7").queue_size == 7
    assert loaded("--queue-size", "8", GATEWAY_QUEUE_SIZE="7").queue_size == 8
    assert loaded(GATEWAY_API_KEY="a,b").api_key == ("a", "b")


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# none yet\n")
    with pytest.raises(SettingsError, match="holds no key"):
        read_api_keys(Settings(api_key_file=str(keys)))
    with pytest.raises(SettingsError, match="cannot read"):
        read_api_keys(Settings(api_key_file=str(tmp_path / "missing")))
    with pytest.raises(SettingsError):
        read_api_keys(Settings(api_key=("",)))

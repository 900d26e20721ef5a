"""Every command finds the server that this folder's settings describe, and tells no other its
keys."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import chat, models, workers
from scripts.doctor_checks import __main__ as doctor
from scripts.launch import serve
from scripts.own_server import OwnServer, server_flags, server_url
from shared.settings import SettingsError

SETTINGS = ("GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_API_KEY", "GATEWAY_ADMIN_KEY")
ELSEWHERE = "http://mac-1.local:8000"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*SETTINGS, "OPENAI_API_KEY", "GATEWAY_BIND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def own(folder: Path, *lines: str) -> OwnServer:
    (folder / ".env").write_text("\n".join(lines))
    return OwnServer(folder)


def test_it_is_where_the_file_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OwnServer(folder).url == "http://127.0.0.1:8000"
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    assert OwnServer(folder).url == "http://127.0.0.1:9000"
    # As for scripts/serve: the file before the environment.
    lines = ("GATEWAY_PORT=9001", "GATEWAY_HOST=::1", "GATEWAY_BIND=tcp://127.0.0.1:7000")
    server = own(folder, *lines)
    assert (server.url, server.worker_port) == ("http://[::1]:9001", 7000)
    assert server_flags(server).parse_args([]).url == server.url


@pytest.mark.parametrize("port", ["abc", "99999", "0"])
def test_a_port_that_is_none_is_named(folder: Path, port: str) -> None:
    with pytest.raises(SettingsError, match=rf"GATEWAY_PORT in \.env: .*{port}"):
        _ = own(folder, f"GATEWAY_PORT={port}").url


MISTAKES = {
    "GATEWAY_PORT=99999": "GATEWAY_PORT in .env: must be at most 65535, got 99999",
    "WORKER_MAX_CONCURRENCY=x": "WORKER_MAX_CONCURRENCY in .env: expected a whole number, got 'x'",
    "GATEWAY_BIND=nowhere": "GATEWAY_BIND in .env: expected tcp://HOST:PORT",
    "GATEWAY_API_KEY_FILE=gone": "GATEWAY_API_KEY_FILE in .env: cannot read ",
    "GATEWAY_CURVE_KEY=k": "GATEWAY_CURVE_KEY in .env and --authorized-workers belong together",
    "GATEWAY_PORT='9": ".env, line 1: No closing quotation",
}
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "serve": serve.main,
    "chat": chat.main,
    "doctor": doctor.main,
    "workers": lambda _: workers.main(),
    "models": lambda _: models.main(),
}


def says(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *typed: str
) -> tuple[int, str]:
    """Run it in this folder; return its exit code, and all that it prints."""
    for place in ("scripts.own_server", "scripts.launch.serve"):
        monkeypatch.setattr(f"{place}.home", lambda: folder)
    monkeypatch.setattr("sys.argv", [command, *typed])
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            code = COMMANDS[command](list(typed))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, told.getvalue()


@pytest.mark.parametrize("line", MISTAKES)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_the_same_of_a_mistake(
    command: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text(line)
    code, told = says(command, folder, monkeypatch)
    assert MISTAKES[line] in told
    assert code == (1 if command == "doctor" else 2)


@pytest.mark.parametrize("command", ["chat", "workers", "models", "doctor"])
def test_every_command_tells_what_is_said_in_vain(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("GATEWAY_PROT=9000\nsome words\n")
    _, told = says(command, folder, monkeypatch, "--unknown")
    assert ".env, line 2, sets nothing: NAME=VALUE is expected" in told
    assert ".env sets GATEWAY_PROT, which nothing reads; is GATEWAY_PORT meant?" in told


@pytest.mark.parametrize("typed", [["--prot", "abc", "list"], ["list", "--prot"], ["--prot=1"]])
@pytest.mark.parametrize("command", ["workers", "models"])
def test_a_flag_that_nobody_knows_is_named(
    command: str, typed: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told = says(command, folder, monkeypatch, *typed)
    assert code == 2 and told == f"scripts/{command}: unknown flag --prot\n"


def test_its_keys_are_told_to_it_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "keys.txt").write_text("# whose\nfrom the file\n")
    server = own(folder, "GATEWAY_API_KEY='a, b'", "GATEWAY_ADMIN_KEY_FILE=keys.txt")
    assert (server.api_key(server.url), server.admin_key(server.url)) == ("a", "from the file")
    assert (server.api_key(ELSEWHERE), server.admin_key(ELSEWHERE)) == ("", "")
    monkeypatch.setenv("OPENAI_API_KEY", "client's")
    monkeypatch.setenv("GATEWAY_ADMIN_KEY", "one, two")
    server = OwnServer(folder)
    assert (server.api_key(ELSEWHERE), server.admin_key(ELSEWHERE)) == ("client's", "one")
    assert server.api_key(server.url) == "a"


def test_a_file_of_keys_that_is_gone_is_named(folder: Path) -> None:
    server = own(folder, "GATEWAY_API_KEY_FILE=gone")
    with pytest.raises(SettingsError, match=r"GATEWAY_API_KEY_FILE in \.env.*gone"):
        server.api_key(server.url)


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("mac:9000", "http://mac:9000"),
        ("http://mac:9000/v1/", "http://mac:9000"),
        ("https://a.example.com/vision/", "https://a.example.com/vision"),
        ("[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_an_address_as_people_write_it(typed: str, url: str) -> None:
    assert server_url(typed) == url


@pytest.mark.parametrize("typed", ["mac:abc", "ftp://mac", "http://", "", "http://[", "mac:99999"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        server_url(typed)

"""Every command finds the server that this folder's settings describe, and tells no other its
keys."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

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


def test_a_port_that_is_none_is_named(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_PORT.*'abc'"):
        _ = own(folder, "GATEWAY_PORT=abc").url


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
    with pytest.raises(SettingsError, match=r"GATEWAY_API_KEY_FILE.*gone"):
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

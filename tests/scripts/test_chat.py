"""The terminal client against a real gateway and a scripted worker."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.chat import main
from scripts.terminal_chat.conversation import printable
from scripts.terminal_chat.errors import ChatError
from scripts.terminal_chat.history import kept_history
from scripts.terminal_chat.pictures import picture_url, sort_line, sort_words
from tests.processes import ROOT, Service, serving
from tests.scripted import words
from tests.waiting import await_condition, free_port

EXAMPLE = ROOT / "docs" / "example.png"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


def test_an_answer_is_printed(service: Service) -> None:
    output = io.StringIO()
    assert main(["--url", service.url, 'script: {"tokens": 6}'], output) == 0
    assert output.getvalue() == words(6) + "\n"


def test_a_model_that_is_not_there_is_said_with_how_to_name_another(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", service.url, "--model", "none", "Hello"], io.StringIO()) == 1
    assert "/model NAME" in capsys.readouterr().err


def test_a_proxy_is_not_asked_for_this_machine(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    assert main(["--url", service.url, 'script: {"tokens": 1}'], io.StringIO()) == 0


def test_a_picture_goes_along(service: Service) -> None:
    assert main(["--url", service.url, str(EXAMPLE), "What is in it?"], io.StringIO()) == 0
    assert service.get("/v1/queue/stats")["metrics"]["request_types"]["vision_stream"] == 1


def typed(monkeypatch: pytest.MonkeyPatch, url: str, *lines: str) -> str:
    """What the prompt says to these lines."""
    left = iter(lines)

    def read_line(prompt: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read_line)
    output = io.StringIO()
    assert main(["--url", url], output) == 0
    return output.getvalue()


def test_turns_follow_each_other(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = f"{EXAMPLE.parent}/missing.png"
    lines = ('script: {"tokens": 2}', missing, 'script: {"tokens": 3}')
    said = typed(monkeypatch, service.url, *lines)
    assert words(2) + "\n" + words(3) + "\n" in said
    assert missing in capsys.readouterr().err


def test_what_begins_with_a_slash_is_for_the_client(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = (one["id"] for one in service.get("/v1/models")["data"])
    pictures = service.get("/v1/queue/stats")["metrics"]["request_types"]["vision_stream"]
    lines = (
        "/help",
        f"/image {EXAMPLE}",
        'script: {"tokens": 1}',
        "/model",
        "/model nobody",
        f"/model {model}",
        'script: {"tokens": 2}',
        "/clear",
        "/clera",
        "/image",
        "/image me",
        "/exit",
        'script: {"tokens": 9}',
    )
    said = typed(monkeypatch, service.url, *lines)
    assert "/image PATH" in said and "1 picture for" in said and f"{model} answers" in said
    assert words(2) in said and words(9) not in said
    told = capsys.readouterr().err
    assert "no model nobody; /model lists them." in told and "is /clear meant?" in told
    assert "Which one?" in told and "'me' is no picture" in told
    types = service.get("/v1/queue/stats")["metrics"]["request_types"]
    assert types["vision_stream"] == pictures + 2


def test_clear_forgets_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[dict[str, Any]] = []
    with busy_server((200, {}, HELLO), bodies=bodies) as url:
        typed(monkeypatch, url, "one", "two", "/clear", "three")
    assert [len(body["messages"]) for body in bodies] == [1, 3, 1]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_what_was_typed_is_kept_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readline = pytest.importorskip("readline")
    file = tmp_path / "state" / "chat_history"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    readline.clear_history()
    with kept_history(file):
        readline.add_history("a question")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    readline.clear_history()
    with kept_history(file):
        assert readline.get_history_item(1) == "a question"
    readline.clear_history()


@pytest.mark.parametrize("starting", [[], ["env", "--ignore-signal=INT"]], ids=["", "deaf"])
def test_ctrl_c_stops_the_answer_and_frees_the_slot(service: Service, starting: list[str]) -> None:
    """Also where a shell without job control started the client deaf to Ctrl-C."""
    question = 'script: {"tokens": 5000, "delay_s": 0.02}'
    client_command = [sys.executable, "-m", "scripts.chat", "--url", service.url, question]
    command = starting + client_command
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.read(2) == "w0"
        client.send_signal(signal.SIGINT)
        assert "[stopped]" in client.stdout.read()
    assert client.returncode == 130
    await_condition(
        lambda: service.get("/v1/queue/stats")["queue_stats"]["active_requests"] == 0, "a free slot"
    )


def test_no_server_is_told_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", f"http://127.0.0.1:{free_port()}", "Hello"]) == 1
    assert "scripts/serve" in capsys.readouterr().err


def test_the_servers_refusal_is_shown(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", service.url, "--model", "nobody", "Hello"]) == 1
    assert "nobody" in capsys.readouterr().err


@contextmanager
def busy_server(
    *answers: tuple[int, dict[str, str], bytes], bodies: list[dict[str, Any]] | None = None
) -> Iterator[str]:
    """Gives these answers, one after the other; the last one to all who come later.

    Args:
        bodies: gets what was asked.
    """
    left = list(answers)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if bodies is not None:
                bodies.append(json.loads(body))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


BUSY_WORDS = b'{"error": {"message": "Service is at capacity."}}'
HELLO = b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\ndata: [DONE]\n\n'


def test_a_busy_server_is_asked_again_when_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    busy = [(429, {"Retry-After": "7"}, BUSY_WORDS), (503, {"Retry-After": "2"}, BUSY_WORDS)]
    output = io.StringIO()
    with busy_server(*busy, (200, {}, HELLO)) as url:
        assert main(["--url", url, "Hello"], output) == 0
    assert output.getvalue() == "Hello\n" and waits == [7, 2]
    assert "at capacity. Try again in about 7 s. Waiting" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "headers"), [(429, {}), (504, {"Retry-After": "1"}), (503, {"Retry-After": "999"})]
)
def test_who_does_not_say_when_or_says_much_later_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(time, "sleep", None)
    with busy_server((status, headers, BUSY_WORDS)) as url:
        assert main(["--url", url, "Hello"], io.StringIO()) == 1


def test_pictures_are_told_from_words() -> None:
    pictures, question = sort_words([str(EXAMPLE), "https://example.com/a", "What", "is it?"])
    assert [url[:14] for url in pictures] == ["data:image/png", "https://exampl"]
    assert question == "What is it?"


def test_pictures_are_found_in_a_line_as_terminals_write_them(tmp_path: Path) -> None:
    for name in ("my scene.png", "it's.jpg"):
        (tmp_path / name).write_bytes(b"x")
    line = f"What's in {tmp_path}/my\\ scene.png and '{tmp_path}/my scene.png', \"exactly\"?"
    pictures, question = sort_line(line)
    assert (len(pictures), question) == (2, 'What\'s in and , "exactly"?')
    assert sort_line(f'"{tmp_path}/it\'s.jpg" What is it?')[1] == "What is it?"
    assert sort_words(["Compare", "colours of png and jpg"]) == (
        [],
        "Compare colours of png and jpg",
    )


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChatError, match=r"gone\.jpg"):
        picture_url(str(tmp_path / "gone.jpg"))


def test_a_model_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\n\tc\x9b") == "a[31mb\n\tc"

"""The protocol's page is enough: a worker that knows nothing else serves real clients."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Service, Tier, answer_text
from tests.waiting import await_condition, free_port

SOURCE = Path(__file__).with_name("worker.py")
MAX_LINES = 150
ALLOWED = {"msgpack", "zmq"}
WORD_S = 0.02
TEXT = " ".join(f"word-{number}" for number in range(40))


class Parrot(Tier):
    """The foreign worker: a copy of its file, in a folder of its own, where nothing of ours is."""

    def __init__(self, folder: Path, endpoint: str, name: str, word_s: float = WORD_S) -> None:
        self.file = shutil.copy(SOURCE, folder)
        super().__init__(endpoint, name, str(word_s))

    def command(self, module: str, flags: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-I", str(self.file), module, *flags]


def body(text: str = TEXT, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def streamed(service: Service, **fields: Any) -> Generator[dict[str, Any]]:
    """The chunks of a stream, which ends as a whole one does."""
    url = f"{service.url}/v1/chat/completions"
    with service.client.stream("POST", url, json=body(stream=True, **fields)) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return
            if line:
                yield json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream has no end")


def text_of(chunks: Iterable[dict[str, Any]]) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def first_worker(service: Service) -> dict[str, Any]:
    return service.worker_states()[0]


@contextlib.contextmanager
def gateway(http: int, endpoint: str) -> Iterator[Service]:
    flags = ("--host", "127.0.0.1", "--port", str(http), "--bind", endpoint)
    service = Service(Tier("gateway", *flags), f"http://127.0.0.1:{http}", endpoint)
    try:
        service.await_ready(0)
        yield service
    finally:
        service.stop()


@pytest.fixture
def service() -> Iterator[Service]:
    with gateway(free_port(), f"tcp://127.0.0.1:{free_port()}") as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """By one parrot called first, which no test takes away for good."""
    with gateway(free_port(), f"tcp://127.0.0.1:{free_port()}") as running:
        add(running, tmp_path_factory.mktemp("first"), "first")
        yield running


def add(service: Service, folder: Path, name: str, word_s: float = WORD_S) -> Parrot:
    parrot = Parrot(folder, service.worker_endpoint, name, word_s)
    service.workers.append(parrot)
    service.await_ready(len(service.workers))
    return parrot


@pytest.mark.parametrize("file", ["worker.py", "host.py"])
def test_it_has_nothing_of_ours_and_is_short(file: str) -> None:
    source = SOURCE.with_name(file).read_text()
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module
            imported.add(node.module.partition(".")[0])
    assert imported <= ALLOWED | sys.stdlib_module_names
    assert len(source.splitlines()) < MAX_LINES


def test_chats_streamed_and_not(served: Service) -> None:
    assert text_of(streamed(served)) == TEXT + " "
    response = served.ask(body())
    assert answer_text(response) == TEXT + " "
    usage = response.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (40, 40)


def test_it_stops_at_the_limit_and_takes_plain_prompts(served: Service) -> None:
    choice = served.ask(body(max_tokens=3)).json()["choices"][0]
    assert choice["message"]["content"] == "word-0 word-1 word-2 "
    assert choice["finish_reason"] == "length"
    completion = served.ask({"prompt": "one two"}, "/v1/completions").json()
    assert completion["choices"][0]["text"] == "one two "


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"stop": "x"}, "stop"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_it_cannot_do_it_refuses(served: Service, fields: dict[str, Any], param: str) -> None:
    refusal = served.ask(body(**fields))
    assert refusal.status_code == 400
    assert refusal.json()["error"]["code"] == "unsupported_parameter"
    assert refusal.json()["error"]["param"] == param


def test_slots_are_kept(served: Service) -> None:
    """More at once than it has slots: streams are refused at once, the others wait their turn."""
    answers: list[str] = []
    clients = [
        threading.Thread(target=lambda: answers.append(answer_text(served.ask(body()))))
        for _ in range(5)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert answers == [TEXT + " "] * 5


def test_a_client_that_leaves_frees_its_slot(service: Service, tmp_path: Path) -> None:
    add(service, tmp_path, "slow", word_s=0.5)
    chunks = streamed(service)
    next(chunks)
    await_condition(lambda: first_worker(service).get("free_stream_slots") == 1, "it is taken")
    chunks.close()
    await_condition(lambda: first_worker(service)["active"] == 0, "the gateway has let go", 5)
    await_condition(lambda: first_worker(service)["free_stream_slots"] == 2, "the worker, too", 5)


def test_it_outlives_its_gateway(tmp_path: Path) -> None:
    http, endpoint = free_port(), f"tcp://127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        with gateway(http, endpoint) as first:
            parrot = Parrot(tmp_path, endpoint, "first")
            stack.callback(parrot.stop)
            first.await_ready(1)
            assert answer_text(first.ask(body("before"))) == "before "
            os.kill(first.gateway.process.pid, signal.SIGKILL)
        with gateway(http, endpoint) as second:
            second.await_ready(1)
            assert text_of(streamed(second)) == TEXT + " "
        assert parrot.process.poll() is None


def test_another_goes_on_where_it_died(service: Service, tmp_path: Path) -> None:
    dying = add(service, tmp_path, "first", word_s=0.1)
    chunks = streamed(service)
    begun = [next(chunks) for _ in range(5)]
    add(service, tmp_path, "second")
    os.kill(dying.process.pid, signal.SIGKILL)
    assert text_of([*begun, *chunks]) == TEXT + " "


def test_drained_and_resumed(served: Service) -> None:
    assert served.ask({"action": "drain"}, "/v1/workers/first").is_success
    await_condition(lambda: first_worker(served)["state"] == "draining", "it is draining")
    assert served.ask(body("x")).status_code == 503
    assert served.ask({"action": "resume"}, "/v1/workers/first").is_success
    await_condition(lambda: first_worker(served)["state"] == "ready", "it is ready again")
    assert answer_text(served.ask(body("x"))) == "x "


def test_restarted(served: Service) -> None:
    assert served.ask({"action": "restart"}, "/v1/workers/first").is_success
    assert answer_text(served.ask(body("x"))) == "x "
    assert served.workers[0].process.poll() is None


def test_it_finishes_and_says_goodbye(service: Service, tmp_path: Path) -> None:
    leaving = add(service, tmp_path, "slow", word_s=0.05)
    chunks = streamed(service)
    begun = [next(chunks) for _ in range(3)]
    leaving.process.terminate()
    assert text_of([*begun, *chunks]) == TEXT + " "
    assert leaving.process.wait(10) == 0
    await_condition(lambda: not service.worker_states(), "nobody expects it back", 5)
    refusal = service.ask(body())
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "no_worker")


def test_nothing_that_it_says_is_dropped(served: Service) -> None:
    assert text_of(streamed(served)) == TEXT + " "
    metrics = httpx.get(f"{served.url}/metrics").text
    dropped = [line for line in metrics.splitlines() if line.startswith("gateway_worker_port_dr")]
    assert dropped and all(line.endswith(" 0.0") for line in dropped), dropped

"""Every command of the README and of docs/ works: run where it can be, looked at where not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.processes import ROOT, Service, serving

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `number` counts those of its language there."""

    page: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(language: str) -> list[Block]:
    fenced = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [
        Block(page.name, number, text)
        for page in PAGES
        for number, text in enumerate(fenced.findall(page.read_text()))
    ]


SHELL = blocks("sh")
PYTHON = blocks("python")
ASKING = [block for block in SHELL if "http://127.0.0.1:8000" in block.text]

SCRIPT = '"script: {'
"""Of a question that only the scripted engine understands."""

NOT_RUN = {
    "git clone": "CI is a clone, and scripts/serve is what its tests start the parts of",
    "scripts/serve --model-path": "downloads gigabytes from the hub",
    "scripts/keys": "binds the worker port to every interface of the machine",
    "python -m worker --gateway": "wants another Mac",
    "scripts/gpu_check": "takes minutes, and its figures are a GPU's",
    "scripts/serve --help": "puts another MLX into the environment that this runs in",
    "scripts/test": "is what runs this",
    "podman": "wants a builder",
    "prometheus": "tests/scripts/test_neighbours.py runs it",
}
"""Commands that are only looked at: their scripts and flags must exist."""

RUN_ALONE = ("python3 -c",)
RUN_AS = {
    "scripts/chat": ("scripts.chat", "There are two shapes."),
    "scripts/doctor": ("scripts.doctor_checks", "Nothing is wrong."),
}
"""What their launchers run once there is an environment, and what it says."""

RIGHT = {"capital of France": "Paris", "capital of Japan": "Tokyo"}


def that_begin_with(*starts: str) -> list[Block]:
    return [block for block in SHELL if block.text.startswith(starts)]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    flags = ("--served-model-name", "demo", "--max-concurrency", "2")
    with serving(worker_flags=flags) as running:
        yield running


@pytest.fixture(scope="module")
def scripted() -> Iterator[Service]:
    with serving() as running:
        yield running


def here(command: str, service: Service) -> str:
    return command.replace("http://127.0.0.1:8000", service.url)


def run(command: list[str], **environment: str) -> str:
    """Return what it says, once it has ended well."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("block", ASKING, ids=str)
def test_what_asks_a_server_is_answered(block: Block, request: pytest.FixtureRequest) -> None:
    asked: Service = request.getfixturevalue("scripted" if SCRIPT in block.text else "service")
    said = run(["bash", "-c", here(block.text, asked)])
    assert '"error"' not in said and '"finish_reason":"stop"' in said
    for question, answer in RIGHT.items():
        if question in block.text:
            pieces = re.findall(r'"content":"([^"]*)"', said)
            assert answer in "".join(pieces)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_the_python_runs(block: Block, service: Service) -> None:
    said = run([sys.executable, "-c", here(block.text, service)], no_proxy="127.0.0.1")
    assert said.strip() == "The capital of France is Paris."


@pytest.mark.parametrize("block", that_begin_with(*RUN_ALONE), ids=str)
def test_what_needs_no_server_runs(block: Block) -> None:
    run(["sh", "-c", block.text])


@pytest.mark.parametrize("block", that_begin_with(*RUN_AS), ids=str)
def test_what_talks_to_the_service_runs(block: Block, service: Service) -> None:
    (launcher,) = (name for name in RUN_AS if block.text.startswith(name))
    module, said = RUN_AS[launcher]
    command = block.text.replace(launcher, f"{sys.executable} -m {module} --url {service.url}")
    assert said in run(["sh", "-c", command])


def test_every_command_is_run_or_said_not_to_be() -> None:
    known = that_begin_with(*NOT_RUN, *RUN_ALONE, *RUN_AS)
    assert [str(block) for block in SHELL if block not in known and block not in ASKING] == []
    for start in (*NOT_RUN, *RUN_ALONE, *RUN_AS):
        assert that_begin_with(start), f"no longer there: {start}"


@pytest.mark.parametrize("block", that_begin_with(*NOT_RUN), ids=str)
def test_what_is_not_run_names_what_exists(block: Block) -> None:
    script = re.sub(r"<[a-z ]+>", "PLACEHOLDER", block.text)
    checked = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0
    for word in shlex.split(block.text.replace("\\\n", " ")):
        if word.startswith("scripts/"):
            is_command = word.count("/") == 1
            assert os.access(ROOT / word, os.X_OK if is_command else os.R_OK), word

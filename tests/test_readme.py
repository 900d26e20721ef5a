"""The README says what is true: its flags exist, its commands work."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scripts.flag_tables import README, with_tables
from scripts.launch.flags import flag_targets
from tests.processes import ROOT, Service, serving

TEXT = README.read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ASKING = [block for block in BLOCKS if "http://127.0.0.1:8000" in block]

NOT_RUN = {
    "git clone": "CI is a clone, and scripts/serve is what its tests start the parts of",
    "scripts/serve --model-path": "downloads gigabytes from the hub",
    "scripts/keys": "binds the worker port to every interface of the machine",
    "python -m worker --gateway": "wants another Mac",
}
"""Commands that are only looked at: their scripts and flags must exist."""

RUN_ALONE = ("python3 -c",)
RUN_AS = {
    "scripts/chat": ("scripts.chat", "There are two shapes."),
    "scripts/doctor": ("scripts.doctor_checks", "Nothing is wrong."),
}
"""What their launchers run once there is an environment, and what it says."""

RIGHT = {"capital of France": "Paris", "capital of Japan": "Tokyo"}
OTHER_FLAGS = {"--workers", "--help", "--run"}


def test_flag_tables_are_those_of_the_settings() -> None:
    assert with_tables(TEXT) == TEXT, "run: python -m scripts.flag_tables"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    flags = ("--served-model-name", "demo", "--max-concurrency", "2")
    with serving(worker_flags=flags) as running:
        yield running


def here(command: str, service: Service) -> str:
    return command.replace("http://127.0.0.1:8000", service.url)


@pytest.mark.parametrize("block", ASKING, ids=range(len(ASKING)))
def test_what_asks_a_server_is_answered(block: str, service: Service) -> None:
    done = subprocess.run(
        ["bash", "-c", here(block, service)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout and '"finish_reason":"stop"' in done.stdout
    for question, answer in RIGHT.items():
        if question in block:
            pieces = re.findall(r'"content":"([^"]*)"', done.stdout)
            assert answer in "".join(pieces)


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_the_python_runs(block: str, service: Service) -> None:
    done = subprocess.run(
        [sys.executable, "-c", here(block, service)],
        env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "The capital of France is Paris."


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.startswith(RUN_ALONE)])
def test_what_needs_no_server_runs(block: str) -> None:
    subprocess.run(["sh", "-c", block], cwd=ROOT, timeout=60, check=True)


@pytest.mark.parametrize("launcher", RUN_AS)
def test_what_talks_to_the_service_runs(launcher: str, service: Service) -> None:
    (block,) = [block for block in BLOCKS if block.startswith(launcher)]
    module, said = RUN_AS[launcher]
    command = block.replace(launcher, f"{sys.executable} -m {module} --url {service.url}")
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout


def test_every_command_is_run_or_said_not_to_be() -> None:
    known = (*NOT_RUN, *RUN_ALONE, *RUN_AS)
    for block in BLOCKS:
        assert block in ASKING or block.startswith(known), block
    for start in NOT_RUN:
        assert any(block.startswith(start) for block in BLOCKS), f"no longer there: {start}"


@pytest.mark.parametrize("start", NOT_RUN)
def test_what_is_not_run_names_what_exists(start: str) -> None:
    (block,) = [block for block in BLOCKS if block.startswith(start)]
    script = re.sub(r"<[a-z ]+>", "PLACEHOLDER", block)
    checked = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0
    for word in shlex.split(block.replace("\\\n", " ")):
        if word.startswith("scripts/"):
            assert os.access(ROOT / word, os.X_OK)


def test_every_flag_that_is_named_exists() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert named - set(flag_targets()) - OTHER_FLAGS == set()


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:docs|scripts)/[\w./-]+\w)`", TEXT)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []

"""SIGHUP: the gateway reads its files of keys again, a worker goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, Tier, serving
from tests.waiting import TIMEOUT_S, await_condition, free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    command = [sys.executable, "-m", "scripts.keys", "near", "--folder", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (tmp_path / "now").mkdir()
    (tmp_path / "api").write_text("first\n")
    return tmp_path


def in_folder(folder: Path, flags: dict[str, str]) -> tuple[str, ...]:
    return tuple(word for flag, name in flags.items() for word in (flag, str(folder / name)))


def read_again(gateway: Tier, words: str) -> None:
    """Send SIGHUP and wait for what the gateway says of it."""
    known = gateway.output().count(words)
    gateway.process.send_signal(signal.SIGHUP)
    await_condition(lambda: gateway.output().count(words) > known, words, 20)


def test_a_gateway_reads_its_keys_again(folder: Path) -> None:
    flags = {
        "--api-key-file": "api",
        "--curve-key": "gateway.key_secret",
        "--authorized-workers": "now",
    }
    mine = {"--worker-key": "near.key_secret", "--gateway-key": "gateway.key"}
    with serving(workers=0, gateway_flags=in_folder(folder, flags)) as service:

        def statuses() -> list[int]:
            keys = [{"x-api-key": key} for key in ("first", "second")]
            models = f"{service.url}/v1/models"
            return [service.client.get(models, headers=key).status_code for key in keys]

        gateway = service.gateway
        assert statuses() == [200, 401]
        (folder / "api").write_text("# none\n")
        read_again(gateway, "holds no key")
        assert statuses() == [200, 401]
        (folder / "api").write_text("second\n")
        read_again(gateway, "keys were read again")
        assert statuses() == [401, 200]
        service.add_worker(*in_folder(folder, mine))
        await_condition(lambda: "refused a worker" in gateway.output(), "it is refused", 20)
        shutil.copy(folder / "authorized" / "near.key", folder / "now")
        read_again(gateway, "keys were read again")
        await_condition(lambda: "connected (ready)" in gateway.output(), "the worker comes", 20)
        # Whoever keeps secrets may hand them out through a pipe, and be slow to.
        (folder / "api").unlink()
        os.mkfifo(folder / "api")
        gateway.process.send_signal(signal.SIGHUP)
        assert statuses() == [401, 200]
        known = gateway.output().count("keys were read again")
        (folder / "api").write_text("first\n")
        await_condition(
            lambda: gateway.output().count("keys were read again") > known, "it is read", 20
        )
        assert statuses() == [200, 401]


def test_a_worker_goes_on() -> None:
    with serving() as service:
        engine = service.worker_states()[0]["pid"]
        # To the whole group, as a closed terminal does it.
        os.killpg(service.workers[0].process.pid, signal.SIGHUP)
        assert service.script(tokens=2).status_code == 200
        assert [worker["pid"] for worker in service.worker_states()] == [engine]
        assert service.workers[0].process.poll() is None


@pytest.mark.parametrize("module", ["gateway", "worker"])
def test_a_tier_that_is_only_starting_lives_on_and_is_stopped_in_order(module: str) -> None:
    """It is importing what it is made of, which Python tells of."""
    address = f"tcp://127.0.0.1:{free_port()}"
    flags = {
        "gateway": ("--port", "0", "--bind", address),
        "worker": ("--gateway", address, "--engine", "scripted"),
    }[module]
    tier = Tier(module, *flags, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    try:
        await_condition(lambda: re.search(r"\| +logging$", tier.output(), re.M), "it imports")
        tier.process.send_signal(signal.SIGHUP)
        tier.process.terminate()
        assert tier.process.wait(TIMEOUT_S) == 0
    finally:
        tier.stop()

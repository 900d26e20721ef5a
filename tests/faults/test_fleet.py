"""Workers and gateways that come and go under load: every answer whole, none refused."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.processes import ROOT, Service, Tier, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition, free_port

WORKER = ("--engine", "scripted", "--max-concurrency", "16", "--max-streams", "16")
STALLING = (*WORKER, "--stall-timeout", "1")
SECONDS = float(os.environ.get("FAULT_SECONDS", "6"))
"""How long each storm lasts; the acceptance run sets 60."""
SOME = 50
"""Answers that show that a gateway goes on giving them."""
CLIENTS = 16

Ask = Callable[[httpx.AsyncClient, str, random.Random], Awaitable[None]]
"""Asks one question of the server at a URL and insists on the right answer."""

Strike = Callable[[Service, random.Random], None]


async def one_answer(client: httpx.AsyncClient, url: str, rng: random.Random) -> None:
    """Ask for a random answer, streamed or whole, and insist on every token of it."""
    tokens, stream = rng.randrange(1, 60), rng.random() < 0.5
    body = scripted(stream=stream, tokens=tokens, delay_s=rng.choice([0.0, 0.01]))
    response = await client.post(f"{url}/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    if stream:
        lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]", response.text[-500:]
        deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines[:-1]]
        text = "".join(delta.get("content") or "" for delta in deltas)
    else:
        text = response.json()["choices"][0]["message"]["content"]
    assert text == words(tokens)


@asynccontextmanager
async def load(url: str, seed: int, ask: Ask = one_answer) -> AsyncIterator[list[int]]:
    """Clients that ask without pause while the block runs; their failures surface at its end."""
    answered = [0]
    over = asyncio.Event()

    async def one_client(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        while not over.is_set():
            await ask(client, url, rng)
            answered[0] += 1

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=64)) as client:
        clients = [asyncio.create_task(one_client(number)) for number in range(CLIENTS)]
        try:
            yield answered
        finally:
            over.set()
            await asyncio.gather(*clients)


async def storm(service: Service, strike: Strike, pause_s: float, ask: Ask = one_answer) -> int:
    """Strike again and again while clients ask; return how many answers came."""
    rng = random.Random(1)
    async with load(service.url, seed=1, ask=ask) as answered:
        loop = asyncio.get_running_loop()
        until = loop.time() + SECONDS
        while loop.time() < until:
            await asyncio.sleep(pause_s)
            await asyncio.to_thread(strike, service, rng)
    return answered[0]


def kill_an_engine(service: Service, rng: random.Random) -> None:
    ready = [w for w in service.worker_states() if w["state"] == "ready"]
    if ready:
        os.kill(rng.choice(ready)["pid"], signal.SIGKILL)


def stop_an_engine(service: Service, rng: random.Random) -> None:
    ready = [w for w in service.worker_states() if w["state"] == "ready"]
    if ready:
        os.kill(rng.choice(ready)["pid"], signal.SIGSTOP)


def assert_drained(service: Service) -> None:
    def drained() -> bool:
        stats = service.get("/v1/queue/stats")
        active = stats["queue_stats"]["active_requests"] + stats["queue_stats"]["queue_size"]
        return active == 0 and not any(worker.get("active") for worker in stats["workers"])

    await_condition(drained, "everything is free again")
    assert service.get("/v1/queue/stats")["metrics"]["error_count"] == 0


@pytest.fixture(scope="module")
def stormed() -> Iterator[Service]:
    """One service for all storms: the first must leave it as it was."""
    with serving(workers=2, worker_flags=STALLING) as service:
        yield service


@pytest.mark.parametrize("strike", [kill_an_engine, stop_an_engine])
async def test_engines_die_or_stop_under_load(stormed: Service, strike: Strike) -> None:
    answered = await storm(stormed, strike, pause_s=5 if SECONDS > 30 else 2.5)
    assert answered > CLIENTS
    stormed.await_ready(2)
    assert_drained(stormed)


async def test_a_rolling_restart_under_load_loses_nothing() -> None:
    with serving(workers=2, worker_flags=WORKER) as service:
        before = {w["id"]: w["pid"] for w in service.worker_states()}
        async with load(service.url, seed=2):
            command = [sys.executable, "-m", "scripts.workers", "--url", service.url]
            restart = await asyncio.to_thread(
                subprocess.run, [*command, "rolling-restart"], cwd=ROOT, check=False
            )
        assert restart.returncode == 0
        after = {w["id"]: w["pid"] for w in service.worker_states()}
        assert set(after) == set(before)
        assert all(after[name] != before[name] for name in before)
        assert_drained(service)


async def test_two_gateways_share_their_workers_and_one_dies() -> None:
    with serving(workers=0) as first, serving(workers=0) as second:
        both = ("--gateway", first.worker_endpoint, "--gateway", second.worker_endpoint)
        workers = [Tier("worker", *WORKER, *both) for _ in range(2)]
        first.workers += workers
        first.await_ready(2)
        second.await_ready(2)
        async with load(second.url, seed=3) as answered:
            with pytest.raises((httpx.TransportError, AssertionError)):
                async with load(first.url, seed=4) as lost:
                    await so_many_more(lost, SOME)
                    first.gateway.process.kill()
            await so_many_more(answered, SOME)
        assert_drained(second)


async def so_many_more(answered: list[int], count: int) -> None:
    enough = answered[0] + count
    await asyncio.to_thread(await_condition, lambda: answered[0] >= enough, f"{count} answers")


def test_a_gateway_that_starts_anew_finds_its_workers_again() -> None:
    with serving(workers=1) as service:
        service.start_gateway_anew()
        service.await_ready(1)
        assert service.script(tokens=3).status_code == 200


def test_different_models_side_by_side_are_told_apart_by_name() -> None:
    with serving(workers=0) as service:
        service.add_worker("--served-model-name", "a", "--served-model-name", "alias")
        service.add_worker("--served-model-name", "b")
        service.await_ready(2)
        names = [model["id"] for model in service.get("/v1/models")["data"]]
        assert sorted(names) == ["a", "alias", "b"]
        for name in names:
            answer = service.ask({**scripted(tokens=1), "model": name})
            assert answer.json()["model"] == name
        assert service.ask(scripted(tokens=1)).status_code == 400
        unknown = service.ask({**scripted(tokens=1), "model": "c"})
        assert unknown.status_code == 404
        assert unknown.json()["error"]["code"] == "model_not_found"


def test_orders_need_a_key_or_this_machine_under_its_own_name() -> None:
    with serving(workers=1) as service:
        worker = service.worker_states()[0]["id"]
        url, order = f"{service.url}/v1/workers/{worker}", {"action": "resume"}
        assert service.client.post(url, json=order).status_code == 200
        rebound = service.client.post(url, json=order, headers={"Host": "evil.example"})
        assert rebound.status_code == 403
        assert service.client.post(f"{url}x", json=order).status_code == 404
        assert service.client.post(url, json={"action": "explode"}).status_code == 400


def test_who_orders_without_the_key_is_told_how_to_give_it() -> None:
    with serving(workers=0, gateway_flags=("--api-key", "sesame")) as service:
        command = [sys.executable, "-m", "scripts.workers", "--url", service.url]
        clean = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *words], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=30
            )

        for words in (("list",), ("drain", "w"), ("rolling-restart",)):
            refused = run(*words)
            assert refused.returncode == 1
            assert "--key" in refused.stderr
            assert "Traceback" not in refused.stderr
        assert run("--key", "sesame", "list").returncode == 0
        unknown = run("--key", "sesame", "drain", "nobody")
        assert "no worker 'nobody'" in unknown.stderr


def test_a_hopeless_worker_says_why_and_ends() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    worker = Tier("worker", "--gateway", endpoint, "--model-path", "no/such/model/anywhere")
    try:
        assert worker.process.wait(60) == 2
        assert "no/such/model/anywhere" in worker.output()
    finally:
        worker.stop()

"""The demo model through both tiers: right answers, many at once, and an engine that is killed."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from scripts.benchmarks.report import Row
from scripts.benchmarks.servers.processes import serving
from scripts.demo_model.answers import caption
from scripts.demo_model.scenes import Scene, random_scene
from scripts.gpu_checks.sizes import Sizes

FLAGS = ("--max-concurrency", "8", "--max-streams", "8")
COUNT = "Count from 1 to 50."
KILL_AFTER_CHARACTERS = 10
TIMEOUT_S = 120.0
RIGHT_SHARE = 7 / 8
"""Of pictures: what the demo model's card promises, with room for chance."""


def check(sizes: Sizes) -> dict[str, list[Row]]:
    with serving(("--log-level", "error"), FLAGS) as service:
        client = Client(service.url)
        return {
            "Both tiers": [
                {"case": "what is the capital of France?", **_capital(client)},
                {"case": f"{sizes.pictures} pictures at once", **_pictures(client, sizes.pictures)},
                {"case": "the engine is killed in mid-answer", **_killed(client)},
            ]
        }


class Client:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def ask(self, content: object) -> str:
        answer = self._http.post("/v1/chat/completions", json=_body(content)).raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])

    def stream(self, content: object) -> Any:
        """Yields the pieces of the answer's text."""
        body = {**_body(content), "stream": True}
        with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    yield event["choices"][0]["delta"].get("content") or ""

    def engine_at_work(self) -> int:
        """Return the process id of an engine that holds a job."""
        workers = self._http.get("/v1/queue/stats").json()["workers"]
        return next(int(worker["pid"]) for worker in workers if worker.get("active"))


def _body(content: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0}


def _capital(client: Client) -> Row:
    started = time.perf_counter()
    right = client.ask("What is the capital of France?") == "The capital of France is Paris."
    return _row(int(right), 1, time.perf_counter() - started, ok=right)


def _pictures(client: Client, count: int) -> Row:
    """Each answer must be the one that its picture gets when asked about alone, too."""
    rng = random.Random(11)
    scenes = [
        random_scene(rng, (rng.randrange(160, 640), rng.randrange(160, 640))) for _ in range(count)
    ]
    contents = [_about(scene) for scene in scenes]
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        together = list(pool.map(client.ask, contents))
    seconds = time.perf_counter() - started
    alone = [client.ask(content) for content in contents]
    right = sum(said == caption(scene) for said, scene in zip(together, scenes, strict=True))
    same = sum(one == other for one, other in zip(together, alone, strict=True))
    ok = same == count and right >= RIGHT_SHARE * count
    return _row(right, count, seconds, ok=ok, as_alone=same)


def _about(scene: Scene) -> list[dict[str, Any]]:
    url = "data:image/png;base64," + base64.b64encode(scene.encode("PNG")).decode()
    question = {"type": "text", "text": "What is in this image?"}
    return [{"type": "image_url", "image_url": {"url": url}}, question]


def _killed(client: Client) -> Row:
    """The same answer goes on, nothing repeated and nothing lost."""
    whole = client.ask(COUNT)
    got, killed_at, longest = "", 0.0, 0.0
    last = time.perf_counter()
    for piece in client.stream(COUNT):
        now = time.perf_counter()
        longest, last = max(longest, now - last if killed_at else 0.0), now
        got += piece
        if not killed_at and len(got) > KILL_AFTER_CHARACTERS:
            os.kill(client.engine_at_work(), signal.SIGKILL)
            killed_at = time.perf_counter()
    right = bool(killed_at) and got == whole
    return _row(int(right), 1, longest, ok=right)


def _row(right: int, of: int, seconds: float, *, ok: bool, as_alone: int | None = None) -> Row:
    return {"right": right, "of": of, "as_alone": as_alone, "seconds": seconds, "ok": ok}

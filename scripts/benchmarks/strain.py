"""The gateway under strain: refusing thousands a second, clients that hang up, large requests.

What is asked of it then is not speed but that nobody else notices.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
import multiprocessing
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from scripts.benchmarks.load import wrk
from scripts.benchmarks.load.client import post
from scripts.benchmarks.load.target import PATH, Target
from scripts.benchmarks.report import Row, percentile
from scripts.benchmarks.servers.processes import Server, cpu_spent, serving

SCRIPTED = ["--engine", "scripted"]
LOGGED = ["--log-level", "info"]
NEVER_S = 3600

REFUSING_CONNECTIONS = (1, 8, 32)

CANCELS_BEFORE = 2_000
"""Until pools and histories have their full size."""

CANCELS_AT_ONCE = 64

IMAGE_SIDE_PX = 2580
"""As noise, 20 MB: just below the limit."""

PROMPT_WORDS = 200_000
PROBE_EVERY_S = 0.02
JSON = {"Content-Type": "application/json"}


def scripted(stream: bool, **script: Any) -> str:
    """A body that the scripted engine plays."""
    content = f"script: {json.dumps(script)}"
    return json.dumps({"messages": [{"role": "user", "content": content}], "stream": stream})


# --- refusals ----------------------------------------------------------------------------------


def refusal_rows(seconds: float) -> Iterator[Row]:
    """A full queue, and connections that ask again as soon as they have been refused."""
    gateway_flags = [*LOGGED, "--queue-size", "1", "--queue-timeout", str(NEVER_S)]
    worker_flags = [*SCRIPTED, "--max-concurrency", "1"]
    with serving(gateway_flags, worker_flags) as server, holding(server, count=2):
        target = Target(server.url + PATH, scripted(stream=False, tokens=1))
        for connections in REFUSING_CONNECTIONS:
            with cpu_spent(server) as cpu_s:
                outcome = wrk.run(target, connections, seconds)
            yield {
                "connections": connections,
                "refused/s": outcome.errors / outcome.seconds,
                "p50 ms": outcome.p50_s * 1e3,
                "p99 ms": outcome.p99_s * 1e3,
                "answered": outcome.answered,
                "gateway CPU us": 1e6 * cpu_s["gateway"] / max(1, outcome.errors),
            }


@contextlib.contextmanager
def holding(server: Server, count: int) -> Iterator[None]:
    """That many requests hold the slots and the queue."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(contextlib.closing(connected(server.url)))
            asked = scripted(stream=False, tokens=1, first_delay_s=NEVER_S)
            connection.request("POST", PATH, asked, JSON)
        while held(server) < count:
            time.sleep(0.02)
        yield


def held(server: Server) -> int:
    """How many requests run or wait."""
    stats = server.get("/v1/queue/stats").json()["queue_stats"]
    return int(stats["active_requests"] + stats["queue_size"])


def connected(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "", parts.port)


# --- clients that hang up ----------------------------------------------------------------------


def cancel_row(count: int) -> Row:
    """Clients that reset their connection at a random moment: what is left of them."""
    flags = [*SCRIPTED, "--max-concurrency", "32", "--max-streams", "32"]
    with serving(LOGGED, flags) as server:
        gateway = server.tiers["gateway"]
        hang_up(server, CANCELS_BEFORE)
        memory, counted = gateway.resident_bytes(), outcomes(server)
        started = time.perf_counter()
        hang_up(server, count)
        return {
            "requests": count,
            "seconds": time.perf_counter() - started,
            "gateway MB before": memory / 1e6,
            "gateway MB after": gateway.resident_bytes() / 1e6,
            "running or waiting after": held(server),
            **{name: total - counted.get(name, 0) for name, total in outcomes(server).items()},
        }


def hang_up(server: Server, count: int) -> None:
    """Send that many requests, leave them at a random moment, and wait until none is held."""
    asyncio.run(_hang_up(server.url, count))
    while held(server):
        time.sleep(0.05)


async def _hang_up(url: str, count: int) -> None:
    address = urlsplit(url)
    gate = asyncio.Semaphore(CANCELS_AT_ONCE)

    async def one() -> None:
        async with gate:
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            script = {"tokens": random.randrange(1, 200), "delay_s": random.choice([0, 0.01])}
            writer.write(post(url + PATH, scripted(random.random() < 0.5, **script)))
            await asyncio.sleep(random.random() * 0.1)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(count)))


def outcomes(server: Server) -> dict[str, int]:
    """Requests so far by outcome."""
    totals: dict[str, int] = {}
    line = r'^gateway_requests_total\{.*outcome="(\w+)".*\} (\S+)$'
    for outcome, value in re.findall(line, server.get("/metrics").text, re.MULTILINE):
        totals[outcome] = totals.get(outcome, 0) + int(float(value))
    return totals


# --- large requests ----------------------------------------------------------------------------


def health_rows(seconds: float) -> Iterator[Row]:
    """How long `/health` takes while large requests come one after the other."""
    url = f"data:image/png;base64,{base64.b64encode(noise(IMAGE_SIDE_PX)).decode()}"
    cases: dict[str, dict[str, Any] | None] = {
        "nothing": None,
        f"images of {len(url) * 3 // 4 / 1e6:.0f} MB": {
            "type": "image_url",
            "image_url": {"url": url},
        },
        f"prompts of {PROMPT_WORDS:,} words": {"type": "text", "text": "word " * PROMPT_WORDS},
    }
    with serving(LOGGED, SCRIPTED) as server:
        for name, part in cases.items():
            answered, latencies_s = probe(server, part, seconds)
            yield {
                "while it handles": name,
                "so many": answered,
                "p50 ms": percentile(latencies_s, 0.5) * 1e3,
                "p99 ms": percentile(latencies_s, 0.99) * 1e3,
                "longest ms": max(latencies_s) * 1e3,
            }


def noise(side_px: int) -> bytes:
    """A PNG of random pixels, which compresses to nothing less."""
    pixels = random.Random(1).randbytes(3 * side_px * side_px)
    file = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def probe(server: Server, part: dict[str, Any] | None, seconds: float) -> tuple[int, list[float]]:
    """Ask for `/health` at even times, in a connection of its own.

    Returns:
        How many requests with that part were answered meanwhile, and the latencies.
    """
    latencies_s = []
    with asking(server, part) as answered, contextlib.closing(connected(server.url)) as peer:
        before = answered.value
        started = time.perf_counter()
        for number in itertools.count():
            due_at = started + number * PROBE_EVERY_S
            if due_at > started + seconds:
                break
            time.sleep(max(0.0, due_at - time.perf_counter()))
            asked_at = time.perf_counter()
            ask(peer, "GET", "/health")
            latencies_s.append(time.perf_counter() - asked_at)
        return answered.value - before, latencies_s


def ask(peer: HTTPConnection, method: str, path: str, body: bytes | None = None) -> None:
    """Raises RuntimeError for anything but a success."""
    peer.request(method, path, body, JSON)
    answer = peer.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the gateway answers {content[:500]!r}")


@contextlib.contextmanager
def asking(server: Server, part: dict[str, Any] | None) -> Iterator[Any]:
    """Requests with that part, one after the other, counted as they are answered. They come from
    a process of their own: whoever sends 27 MB has no time to look at his watch."""
    answered = multiprocessing.Value("q", 0)
    if part is None:
        yield answered
        return
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]
    body = json.dumps({"messages": messages}).encode()
    process = multiprocessing.Process(
        target=keep_asking, args=(server.url, body, answered), daemon=True
    )
    process.start()
    try:
        while not answered.value:
            if not process.is_alive():
                raise RuntimeError("the large requests have failed; see above")
            time.sleep(0.02)
        yield answered
    finally:
        process.terminate()
        process.join()


def keep_asking(url: str, body: bytes, answered: Any) -> None:
    peer = connected(url)
    while True:
        ask(peer, "POST", PATH, body)
        answered.value += 1

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
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from scripts.benchmarks import closed_loop
from scripts.benchmarks.load import Target
from scripts.benchmarks.report import Row, percentile
from scripts.benchmarks.tiers import Service, serving

PATH = "/v1/chat/completions"
SCRIPTED = ["--engine", "scripted"]
NEVER_S = 3600

REFUSING_CONNECTIONS = (1, 8, 32)

CANCELS_BEFORE = 2_000
"""Until pools and histories have their full size."""

CANCELS_AT_ONCE = 64

IMAGE_SIDE_PX = 2580
"""As noise, 20 MB: just below the limit."""

PROMPT_WORDS = 200_000
PROBE_EVERY_S = 0.02


def question(stream: bool, **script: Any) -> str:
    """A body that the scripted engine plays."""
    content = f"script: {json.dumps(script)}"
    return json.dumps({"messages": [{"role": "user", "content": content}], "stream": stream})


def refusal_rows(seconds: float) -> Iterator[Row]:
    """A full queue, and connections that ask again as soon as they have been refused."""
    gateway_flags = ["--log-level", "info", "--queue-size", "1", "--queue-timeout", str(NEVER_S)]
    worker_flags = [*SCRIPTED, "--max-concurrency", "1"]
    with serving(gateway_flags, worker_flags) as service, holding(service, count=2):
        target = Target(service.url + PATH, question(stream=False, tokens=1))
        for connections in REFUSING_CONNECTIONS:
            before_s = service.gateway.cpu_s()
            outcome = closed_loop.run(target, connections, seconds)
            spent_s = service.gateway.cpu_s() - before_s
            yield {
                "connections": connections,
                "refused/s": outcome.errors / outcome.seconds,
                "p50 ms": outcome.p50_s * 1e3,
                "p99 ms": outcome.p99_s * 1e3,
                "answered": outcome.requests,
                "gateway CPU us": 1e6 * spent_s / max(1, outcome.errors),
            }


@contextlib.contextmanager
def holding(service: Service, count: int) -> Iterator[None]:
    """That many requests hold the slots and the queue."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            peer = stack.enter_context(socket.create_connection(address(service)))
            peer.sendall(post(question(stream=False, tokens=1, first_delay_s=NEVER_S)))
        while sum(held(service)) < count:
            time.sleep(0.02)
        yield


def held(service: Service) -> tuple[int, int]:
    """How many requests run and how many wait."""
    with urllib.request.urlopen(f"{service.url}/v1/queue/stats", timeout=30) as answer:
        stats = json.load(answer)["queue_stats"]
    return stats["active_requests"], stats["queue_size"]


def cancel_row(count: int) -> Row:
    """Clients that reset their connection at a random moment: what is left of them."""
    flags = [*SCRIPTED, "--max-concurrency", "32", "--max-streams", "32"]
    with serving(["--log-level", "info"], flags) as service:
        asyncio.run(hang_up(service, CANCELS_BEFORE))
        settle(service)
        memory, counted = service.gateway.resident_bytes(), outcomes(service)
        started = time.perf_counter()
        asyncio.run(hang_up(service, count))
        settle(service)
        return {
            "requests": count,
            "seconds": time.perf_counter() - started,
            "gateway MB before": memory / 1e6,
            "gateway MB after": service.gateway.resident_bytes() / 1e6,
            "running or waiting after": sum(held(service)),
            **{name: total - counted.get(name, 0) for name, total in outcomes(service).items()},
        }


async def hang_up(service: Service, count: int) -> None:
    gate = asyncio.Semaphore(CANCELS_AT_ONCE)

    async def one() -> None:
        async with gate:
            _, writer = await asyncio.open_connection(*address(service))
            script = {"tokens": random.randrange(1, 200), "delay_s": random.choice([0, 0.01])}
            writer.write(post(question(random.random() < 0.5, **script)))
            await asyncio.sleep(random.random() * 0.1)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(count)))


def settle(service: Service) -> None:
    while sum(held(service)):
        time.sleep(0.05)


def outcomes(service: Service) -> dict[str, int]:
    """Requests so far by outcome."""
    totals: dict[str, int] = {}
    line = r'^gateway_requests_total\{.*outcome="(\w+)".*\} (\S+)$'
    for outcome, value in re.findall(line, metrics(service), re.MULTILINE):
        totals[outcome] = totals.get(outcome, 0) + int(float(value))
    return totals


def metrics(service: Service) -> str:
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=30) as answer:
        return str(answer.read(), "utf-8")


def health_rows(seconds: float) -> Iterator[Row]:
    """How long `/health` takes while large requests come one after the other."""
    url = f"data:image/png;base64,{base64.b64encode(noise(IMAGE_SIDE_PX)).decode()}"
    cases = {
        "nothing": None,
        f"images of {len(url) * 3 // 4 / 1e6:.0f} MB": {
            "type": "image_url",
            "image_url": {"url": url},
        },
        f"prompts of {PROMPT_WORDS:,} words": {"type": "text", "text": "word " * PROMPT_WORDS},
    }
    with serving(["--log-level", "info"], SCRIPTED) as service:
        for name, part in cases.items():
            answered, latencies_s = probe(service, part, seconds)
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


def probe(service: Service, part: dict[str, Any] | None, seconds: float) -> tuple[int, list[float]]:
    """Ask for `/health` at even times, in a connection of its own.

    Returns:
        How many requests with that part were answered meanwhile, and the latencies.
    """
    latencies_s = []
    with asking(service, part) as answered, socket.create_connection(address(service)) as peer:
        before = answered.value
        started = time.perf_counter()
        for number in itertools.count():
            due_at = started + number * PROBE_EVERY_S
            if due_at > started + seconds:
                break
            time.sleep(max(0.0, due_at - time.perf_counter()))
            asked_at = time.perf_counter()
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_answer(peer)
            latencies_s.append(time.perf_counter() - asked_at)
        return answered.value - before, latencies_s


@contextlib.contextmanager
def asking(service: Service, part: dict[str, Any] | None) -> Iterator[Any]:
    """Requests with that part, one after the other, counted as they are answered. They come from
    a process of their own: whoever sends 27 MB has no time to look at his watch."""
    answered = multiprocessing.Value("q", 0)
    if part is None:
        yield answered
        return
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]
    request = post(json.dumps({"messages": messages}))
    process = multiprocessing.Process(
        target=keep_asking, args=(address(service), request, answered), daemon=True
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


def keep_asking(target: tuple[str, int], request: bytes, answered: Any) -> None:
    with socket.create_connection(target) as peer:
        while True:
            peer.sendall(request)
            read_answer(peer)
            answered.value += 1


def read_answer(peer: socket.socket) -> None:
    """Raises RuntimeError for anything but a success."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += received_from(peer)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    while len(body) < (int(length[1]) if length else 0):
        body += received_from(peer)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the gateway answers {body[:500]!r}")


def received_from(peer: socket.socket) -> bytes:
    data = peer.recv(1 << 16)
    if not data:
        raise RuntimeError("the gateway has hung up")
    return data


def post(body: str) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    content = body.encode()
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def address(service: Service) -> tuple[str, int]:
    parts = urlsplit(service.url)
    return parts.hostname or "", parts.port or 80

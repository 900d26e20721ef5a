"""Is a gateway running, is it ready, which workers has it, and does it answer?"""

from __future__ import annotations

import base64
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.doctor_checks.findings import Finding, fine, note, wrong

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example.png"
WORKER_PORT = 5555
LOOK_S = 3.0
ANSWER_S = 300.0


class Service:
    """A gateway's address, and how to ask it."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(
        self, path: str, body: dict[str, Any] | None = None, timeout: float = LOOK_S
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body; the status is 0 when nobody answers like a gateway."""
        data = json.dumps(body).encode() if body else None
        headers = {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return int(answer.status), dict(json.load(answer))
        except urllib.error.HTTPError as error:
            try:
                return error.code, dict(json.load(error))
            except (ValueError, TypeError):
                return 0, {}
        except (OSError, ValueError, TypeError):
            return 0, {}


def check_service(service: Service, run: bool) -> Iterator[Finding]:
    status, body = service.ask("/health")
    if status != 200 or body.get("status") != "ok":
        yield from _nobody(service, run)
        return
    yield fine(f"A gateway runs at {service.url}")
    status, body = service.ask("/ready")
    if status == 401:
        yield wrong("The gateway asks for an API key.", "Give it: scripts/doctor --key KEY")
        return
    if status != 200:
        yield wrong(
            f"The gateway is not ready: {_message(body)}",
            "Wait while a model loads; else start a worker (python -m worker) and read its log.",
        )
        return
    for worker in body["workers"]:
        yield _worker(worker)
    if run:
        yield run_one(service)


def port_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(LOOK_S)
        return probe.connect_ex((host, port)) == 0


def run_one(service: Service) -> Finding:
    """Ask about the example picture."""
    url = f"data:image/png;base64,{base64.b64encode(EXAMPLE.read_bytes()).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is in this image?"},
    ]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 64}
    started = time.monotonic()
    status, answer = service.ask("/v1/chat/completions", body, ANSWER_S)
    seconds = time.monotonic() - started
    if status != 200:
        return wrong(f"A picture was not answered: {_message(answer)}", "Read the worker's log.")
    tokens = answer["usage"]["completion_tokens"]
    text = answer["choices"][0]["message"]["content"]
    return fine(f"A picture was answered in {seconds:.2f} s ({tokens} tokens): {text}")


def _nobody(service: Service, run: bool) -> Iterator[Finding]:
    address = urlsplit(service.url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    if port_taken(host, port):
        yield wrong(
            f"Port {port} is taken by a program that is no gateway.",
            f"End it (lsof -i :{port} names it), or start with scripts/serve --port {port + 1}",
        )
    elif run:
        yield wrong(f"No gateway runs at {service.url}.", "Start one: scripts/serve")
    else:
        yield note(f"No gateway runs at {service.url}; the port is free.", "Start: scripts/serve")
    if host in ("127.0.0.1", "localhost") and port_taken(host, WORKER_PORT):
        yield note(
            f"Port {WORKER_PORT}, where workers connect, is taken.",
            f"Another gateway? lsof -i :{WORKER_PORT} names it; --bind moves ours.",
        )


def _worker(worker: dict[str, Any]) -> Finding:
    said = f"Worker {worker['id']} ({worker['model']}) is {worker['state']}"
    if worker["state"] == "ready":
        return fine(said)
    return note(said + ".", "It takes no requests until it is ready.")


def _message(body: dict[str, Any]) -> str:
    error = body.get("error")
    return str(error["message"]) if isinstance(error, dict) else "it gave no reason."

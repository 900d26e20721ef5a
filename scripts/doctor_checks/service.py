"""Is a gateway running, is it ready, and which workers has it?"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from scripts.doctor_checks.findings import Finding, fine, note, wrong
from scripts.installation import command_name
from scripts.loopback import is_loopback

SERVE, DOCTOR = command_name("serve"), command_name("doctor")

LOOK_S = 3.0


class Service:
    """A gateway's address, and how to ask it."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        proxies = urllib.request.ProxyHandler({} if is_loopback(self.url) else None)
        self._opener = urllib.request.build_opener(proxies)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(
        self, path: str, body: dict[str, Any] | None = None, timeout: float = LOOK_S
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body; the status is 0 when nobody answers like a gateway."""
        data = json.dumps(body).encode() if body else None
        headers = {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return int(answer.status), dict(json.load(answer))
        except urllib.error.HTTPError as error:
            try:
                return error.code, dict(json.load(error))
            except (ValueError, TypeError):
                return 0, {}
        except (OSError, HTTPException, ValueError, TypeError):
            return 0, {}


def check_service(service: Service, worker_port: int, *, needed: bool) -> Iterator[Finding]:
    """
    Args:
        worker_port: where workers of this machine connect.
        needed: that none runs is wrong, and not only worth a note.
    """
    status, body = service.ask("/health")
    if status != 200 or body.get("status") != "ok":
        yield from _nobody(service, worker_port, needed)
        return
    yield fine(f"A gateway runs at {service.url}")
    status, body = service.ask("/ready")
    if status == 401:
        yield wrong("The gateway asks for an API key.", f"Give it: {DOCTOR} --key KEY")
        return
    if status != 200:
        yield wrong(
            f"The gateway is not ready: {reason(body)}",
            "Wait while a model loads; else start a worker (python -m worker) and read its log.",
        )
        return
    for worker in body["workers"]:
        yield _worker(worker)
    yield from _models(service.ask("/v1/models")[1].get("data", []))


def port_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(LOOK_S)
        return probe.connect_ex((host, port)) == 0


def _nobody(service: Service, worker_port: int, needed: bool) -> Iterator[Finding]:
    address = urlsplit(service.url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    if port_taken(host, port):
        yield wrong(
            f"Port {port} is taken by a program that is no gateway.",
            f"End it (lsof -i :{port} names it), or start with {SERVE} --port {port + 1}",
        )
    elif needed:
        yield wrong(f"No gateway runs at {service.url}.", f"Start one: {SERVE}")
    else:
        yield note(
            f"No gateway runs at {service.url}; the port is free.",
            f"Start: {SERVE}",
        )
    if host in ("127.0.0.1", "localhost") and port_taken(host, worker_port):
        yield note(
            f"Port {worker_port}, where workers connect, is taken.",
            f"Another gateway? lsof -i :{worker_port} names it; --bind moves ours.",
        )


def _worker(worker: dict[str, Any]) -> Finding:
    said = f"Worker {worker['id']} ({worker['model']}) is {worker['state']}"
    if worker["state"] == "ready":
        return fine(said)
    return note(said + ".", "It takes no requests until it is ready.")


def _models(models: list[dict[str, Any]]) -> Iterator[Finding]:
    """Of a worker that loads models when they are asked for; others are among the workers."""
    states = {
        model["id"]: model["status"] for model in models if model["id"] not in model["aliases"]
    }
    loaded = [name for name, status in states.items() if status["value"] == "loaded"]
    if len(loaded) < len(states):
        yield fine(f"{len(states)} models can be asked for, {len(loaded)} of them loaded")
    for name, status in states.items():
        if status["value"] == "failed":
            yield wrong(
                f"The model {name} could not be loaded: {status['error']}",
                f"Its worker's log has more; {DOCTOR} --model FOLDER tries it alone.",
            )


def reason(body: dict[str, Any]) -> str:
    """Return what the gateway says of a failure."""
    error = body.get("error")
    return str(error["message"]) if isinstance(error, dict) else "it gave no reason."

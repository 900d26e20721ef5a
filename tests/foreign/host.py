"""A host written from docs/protocol.md alone: each model that it loads is a `worker.py` beside it.

python host.py GATEWAY-ENDPOINT NAME BUDGET MODEL=SIZE...

A model called `broken` cannot be loaded. What makes room is what was asked for the longest ago.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq

CATALOGUE, WELCOME, LOAD, UNLOAD = 11, 65, 72, 73
BEAT_S, RETRY_S, WORD_S = 1.0, 30.0, "0.02"
OPTIONS = {zmq.IMMEDIATE: 1, zmq.HEARTBEAT_IVL: 2000}
OPTIONS |= {zmq.HEARTBEAT_TIMEOUT: 6000, zmq.HEARTBEAT_TTL: 6000}
WORKER = Path(__file__).with_name("worker.py")


class Host:
    def __init__(self, endpoint: str, name: str, budget: str, *models: str) -> None:
        self.endpoint, self.name, self.budget = endpoint, name, int(budget)
        self.sizes = {model.split("=")[0]: int(model.split("=")[1]) for model in models}
        self.instance, self.leaving, self.told_at = os.urandom(8).hex(), False, 0.0
        self.engines: dict[str, subprocess.Popen[bytes]] = {}
        self.asked_at: dict[str, float] = {}
        self.failed_at: dict[str, float] = {}
        self.socket = zmq.Context().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        for option, value in OPTIONS.items():
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)

    def run(self) -> None:
        while not self.leaving:
            while self.socket.poll(20):
                self.hear(self.socket.recv_multipart())
            dead = [name for name, engine in self.engines.items() if engine.poll() is not None]
            for name in dead:
                del self.engines[name]
            if dead or time.monotonic() - self.told_at > BEAT_S:
                self.tell()
        for name in list(self.engines):
            self.end(name)
        self.tell()
        self.socket.context.destroy(linger=500)

    def hear(self, frames: list[bytes]) -> None:
        code, fields = frames[0][1], msgpack.unpackb(frames[1])
        if code == LOAD:
            print("load", fields["model"], fields.get("idle_unload_s"), flush=True)
            self.asked_at[fields["model"]] = time.monotonic()
            self.load(fields["model"])
        elif code == UNLOAD and fields["model"] in self.engines:
            self.end(fields["model"])
        if code in (LOAD, UNLOAD):
            self.tell()

    def load(self, name: str) -> None:
        if name in self.engines or self.room(name) == "never":
            return
        if name == "broken":
            self.failed_at[name] = time.monotonic()
            return
        while self.room(name) != "free":
            self.end(min(self.engines, key=self.asked_at.__getitem__))
        words = [str(WORKER), self.endpoint, f"{self.name}/{name}", WORD_S, name, self.instance]
        self.engines[name] = subprocess.Popen([sys.executable, "-I", *words])
        print("engine", name, self.engines[name].pid, flush=True)

    def end(self, name: str) -> None:
        self.engines[name].terminate()
        self.engines.pop(name).wait()

    def room(self, name: str) -> str:
        used = sum(self.sizes[other] for other in self.engines if other != name)
        if self.sizes[name] > self.budget:
            return "never"
        return "free" if self.sizes[name] + used <= self.budget else "idle"

    def entry(self, name: str) -> dict[str, Any]:
        retry_s = RETRY_S - (time.monotonic() - self.failed_at.get(name, float("-inf")))
        status = "loaded" if name in self.engines else "failed" if retry_s > 0 else "unloaded"
        facts = {"name": name, "status": status, "room": self.room(name), "slots": 2}
        facts |= {"stream_slots": 2, "memory_bytes": self.sizes[name]}
        if status == "failed":
            facts |= {"error": "a broken parrot says nothing", "retry_s": retry_s}
        return facts

    def tell(self) -> None:
        self.told_at = time.monotonic()
        fields: dict[str, Any] = {"worker": self.name, "instance": self.instance}
        fields |= {"models": [self.entry(name) for name in self.sizes], "leaving": self.leaving}
        fields |= {"memory_budget_bytes": self.budget}
        fields |= {"memory_used_bytes": sum(self.sizes[name] for name in self.engines)}
        try:
            self.socket.send_multipart([bytes((1, CATALOGUE)), msgpack.packb(fields)], zmq.NOBLOCK)
        except zmq.Again:
            pass  # the gateway is away; the next one says the same


if __name__ == "__main__":
    host = Host(*sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(host, "leaving", True))
    host.run()

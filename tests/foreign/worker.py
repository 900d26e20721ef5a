"""A worker written from docs/protocol.md alone: it repeats what was said to it, word by word.

python worker.py GATEWAY-ENDPOINT NAME SECONDS-PER-WORD [MODEL SUPERVISOR]
The id of a word is its place in the answer, so that any worker like it can go on with the answer.
"""

import os
import signal
import sys
import time
from typing import Any

import msgpack
import zmq

HELLO, HEARTBEAT, ACCEPTED, REJECTED, DELTAS, DONE, FAILED, CANCELLED, GOODBYE = range(1, 10)
WELCOME, PING, SUBMIT, CANCEL, IDENTIFY, CONTROL = range(65, 71)
SLOTS, HELLO_S, DRAIN_S = 2, 1.0, 10.0
FACTS: dict[str, Any] = {"slots": SLOTS, "stream_slots": SLOTS, "vision": False}
OPTIONS = {zmq.IMMEDIATE: 1, zmq.HEARTBEAT_IVL: 2000}
OPTIONS |= {zmq.HEARTBEAT_TIMEOUT: 6000, zmq.HEARTBEAT_TTL: 6000}
UNABLE: dict[str, Any] = {"logprobs": None, "response_format": None, "tool_policy": None}
UNABLE |= {"stop": [], "images": [], "choices": 1, "echo": False}
CALLED = {"tool_policy": "tools", "images": "messages", "choices": "n"}


class Worker:
    def __init__(self, endpoint: str, name: str, word_s: str, *of: str) -> None:
        self.model, supervisor = of or ("parrot", "")
        self.facts = {**FACTS, "models": [self.model], "supervisor": supervisor}
        self.facts |= {"worker": name, "instance": os.urandom(8).hex()}
        self.word_s, self.state, self.told = float(word_s), "ready", ""
        self.gateway, self.heartbeat_s, self.heard_at, self.spoke_at = "", HELLO_S, 0.0, 0.0
        self.leaving_at, self.returning, self.steps = 0.0, False, 0
        self.jobs: dict[str, dict[str, Any]] = {}
        self.socket = zmq.Context().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        for option, value in OPTIONS.items():
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)

    def send(self, code: int, /, **fields: Any) -> None:
        try:
            self.socket.send_multipart([bytes((1, code)), msgpack.packb(fields)], zmq.NOBLOCK)
        except zmq.Again:
            pass  # the gateway is away; what is said to nobody is lost, and heals later

    def run(self) -> None:
        while not self.leaving_at or (self.jobs and time.monotonic() < self.leaving_at):
            while self.socket.poll(5):
                self.hear(self.socket.recv_multipart())
            now = time.monotonic()
            if self.gateway and now - self.heard_at > 3 * self.heartbeat_s:
                self.forget()
            due_at = self.spoke_at + (self.heartbeat_s if self.gateway else HELLO_S)
            if now > due_at or self.state != self.told:
                self.speak()
            for job_id, job in list(self.jobs.items()):
                if now >= job["due"]:
                    self.step(job_id, job)
            self.steps += 1
        for job_id in self.jobs:
            self.send(REJECTED, job=job_id, reason="draining")
        self.send(GOODBYE, returning=self.returning)
        self.socket.context.destroy(linger=500)

    def speak(self) -> None:
        self.spoke_at, self.told = time.monotonic(), self.state
        if not self.gateway:
            return self.send(HELLO, state=self.state, **self.facts)
        streams = [job_id for job_id, job in self.jobs.items() if job["stream"]]
        others = [job_id for job_id in self.jobs if job_id not in streams]
        fields: dict[str, Any] = {"state": self.state, "jobs": others, "streams": streams}
        fields |= {"free_slots": SLOTS - len(others), "free_stream_slots": SLOTS - len(streams)}
        self.send(HEARTBEAT, active=len(self.jobs), steps=self.steps, **fields)

    def forget(self) -> None:
        self.jobs.clear()
        self.gateway, self.told = "", ""

    def leave(self, returning: bool) -> None:
        self.leaving_at, self.returning = time.monotonic() + DRAIN_S, returning
        self.state = "draining"

    def hear(self, frames: list[bytes]) -> None:
        self.heard_at = time.monotonic()
        code, fields = frames[0][1], msgpack.unpackb(frames[1], strict_map_key=False)
        if code == WELCOME:
            self.gateway, self.heartbeat_s = fields["gateway"], fields["heartbeat_s"]
            self.speak()
        elif code == IDENTIFY or (code == PING and self.gateway not in ("", fields["gateway"])):
            self.forget()
        elif code == SUBMIT:
            self.submit(fields["job"])
        elif code == CANCEL:
            for job_id in fields["jobs"]:
                self.jobs.pop(job_id, None)
                self.send(CANCELLED, job=job_id)
        elif code == CONTROL and fields["action"] == "restart":
            self.leave(returning=True)
        elif code == CONTROL and not self.leaving_at:
            self.state = "draining" if fields["action"] == "drain" else "ready"

    def submit(self, job: dict[str, Any]) -> None:
        job_id, stream, resume = job["id"], job["stream"], job.get("resume") or [{"tokens": []}]
        if job["model"] != self.model:
            return self.send(REJECTED, job=job_id, reason="unknown_model")
        if self.state == "draining":
            return self.send(REJECTED, job=job_id, reason="draining")
        if sum(held["stream"] == stream for held in self.jobs.values()) >= SLOTS:
            return self.send(REJECTED, job=job_id, reason="no_slot")
        for field, value in UNABLE.items():
            if job.get(field, value) != value:
                param = CALLED.get(field, field)
                failure = {"code": "unsupported_parameter", "param": param}
                return self.send(FAILED, job=job_id, message=f"A parrot has no {param}.", **failure)
        turns = job.get("messages") or [{"content": [{"text": job.get("prompt")}]}]
        words = "".join(part["text"] for part in turns[-1]["content"]).split()
        most = job.get("max_tokens")
        end = len(words) if most is None else min(most, len(words))
        held: dict[str, Any] = {"stream": stream, "words": words, "end": end, "sequence": 0}
        held |= {"made": len(resume[0]["tokens"]), "ended": resume[0].get("finish_reason")}
        self.jobs[job_id] = {**held, "due": 0.0}
        self.send(ACCEPTED, job=job_id, prompt_tokens=len(words))

    def step(self, job_id: str, job: dict[str, Any]) -> None:
        words, made, end, items = job["words"], job["made"], job["end"], []
        if not job["ended"]:
            tokens = [made] if made < end else []
            job["made"] += len(tokens)
            if job["made"] >= end:
                job["ended"] = "stop" if end == len(words) else "length"
            text = "".join(words[token] + " " for token in tokens)
            items = [[job_id, job["sequence"], 0, tokens, text, job["ended"]]]
        job["sequence"], job["due"] = job["sequence"] + 1, time.monotonic() + self.word_s
        done = []
        if job["ended"]:
            del self.jobs[job_id]
            usage = {"prompt_tokens": len(words), "completion_tokens": job["made"]}
            done = [{"job": job_id, "usage": usage, "timings": {}}]
        self.send(DELTAS, items=items, done=done)


if __name__ == "__main__":
    worker = Worker(*sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: worker.leave(returning=False))
    worker.run()
    if worker.returning:
        os.execv(sys.executable, sys.orig_argv)

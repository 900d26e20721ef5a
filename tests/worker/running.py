"""A worker in this process: the real link and loop on threads of their own, the scripted engine,
and real sockets to gateways that the test plays."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from shared.messages import (
    ChatMessage,
    Heartbeat,
    Hello,
    Job,
    Resume,
    Sampling,
    Submit,
    TextPart,
    Welcome,
)
from tests.hostile.strangers import Stranger, false_gateway, where
from worker.engine.interface import EngineFactory
from worker.engine.scripted import ScriptedEngine
from worker.link.draining import Ending
from worker.link.engine_outputs import EngineOutputs
from worker.link.link import Link
from worker.loop import EngineLoop, EngineThread, Run
from worker.settings import Settings

MODEL = "demo"
QUIET_S = 60.0
"""A heartbeat interval in which a test's gateway may be silent; news still come at once."""
TIMEOUT_S = 10.0


def job(job_id: str, *, stream: bool = True, model: str = MODEL, **script: Any) -> Job:
    """A job that the scripted engine plays."""
    resume: list[Resume] = script.pop("resume", [])
    turn = ChatMessage(role="user", content=[TextPart(text=f"script: {json.dumps(script)}")])
    return Job(
        id=job_id,
        answer_id=job_id,
        request_id=job_id,
        model=model,
        stream=stream,
        sampling=Sampling(seed=1),
        messages=[turn],
        resume=resume,
    )


def submit(job_id: str, **fields: Any) -> Submit:
    return Submit(job=job(job_id, **fields), budget_s=60.0)


def for_ever(job_id: str, **fields: Any) -> Submit:
    """A job that is accepted and does not end."""
    return submit(job_id, first_delay_s=3600, **fields)


class RunningWorker:
    """One engine process' threads; `ended` has how its link ended."""

    def __init__(self, settings: Settings, make_engine: EngineFactory) -> None:
        outputs = EngineOutputs()
        self.loop = EngineLoop(make_engine, outputs.publish)
        self.link = Link(settings, "worker", self.loop, outputs, lambda: None)
        self.engine = EngineThread(self.loop)
        self.ended: list[Ending] = []
        self._thread = threading.Thread(target=self._run, name="link")
        self.engine.start()
        self._thread.start()

    def _run(self) -> None:
        self.ended.append(self.link.run(self.engine.is_alive))

    def ending(self) -> Ending:
        """Wait for the link to end and return how."""
        self._thread.join(TIMEOUT_S)
        assert self.ended, "the link has not ended"
        return self.ended[0]

    def stop(self) -> None:
        # An engine thread ends with its process alone, or with a fault.
        self.loop.put(Run(job("the end", fault="crash"), ()))
        for thread in (self.engine, self._thread):
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), f"the {thread.name} thread does not end"


@contextlib.contextmanager
def running_worker(
    *gateways: Stranger, make_engine: EngineFactory | None = None, **settings: Any
) -> Iterator[RunningWorker]:
    """A worker of these gateways, which have yet to welcome it."""
    chosen = Settings(gateway=tuple(map(where, gateways)), engine="scripted", **settings)
    running = RunningWorker(chosen, make_engine or (lambda report, wake: ScriptedEngine()))
    try:
        yield running
    finally:
        running.stop()


def welcome(gateway: Stranger, name: str = "g", heartbeat_s: float = QUIET_S) -> Hello:
    """Open a session once the worker is ready, and hear its first heartbeat."""
    said = Welcome(gateway=name, heartbeat_s=heartbeat_s)
    while (hello := gateway.hear(Hello)).state != "ready":
        gateway.say(said)
    gateway.say(said)
    assert gateway.hear(Heartbeat).state == "ready"
    return hello


@contextlib.contextmanager
def worker_of_one(**settings: Any) -> Iterator[tuple[Stranger, RunningWorker]]:
    """A gateway with an open session, and its worker."""
    with false_gateway() as gateway, running_worker(gateway, **settings) as running:
        welcome(gateway)
        yield gateway, running

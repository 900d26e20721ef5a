"""What a worker tells the gateways about itself: who it is, how it is, what is free."""

from __future__ import annotations

import os
import platform
import socket

from shared.messages import Heartbeat, Hello, WorkerState
from shared.version import VERSION
from worker import lost_runs
from worker.link.slots import Slots
from worker.loop import Progress
from worker.settings import Settings

INSTANCE_VARIABLE = "WORKER_INSTANCE"
"""Set by the supervisor, the same for all engine processes of a model."""
SUPERVISOR_VARIABLE = "WORKER_SUPERVISOR"
"""Set by a host: its own instance."""


def hello(settings: Settings, name: str, state: WorkerState, progress: Progress) -> Hello:
    facts = progress.facts
    return Hello(
        worker=name,
        instance=os.environ.get(INSTANCE_VARIABLE, ""),
        supervisor=os.environ.get(SUPERVISOR_VARIABLE, ""),
        models=list(settings.model_names),
        slots=settings.max_concurrency,
        stream_slots=settings.max_streams,
        state=state,
        device=facts.device if facts else "",
        context_tokens=facts.context_tokens if facts else None,
        vision=facts.vision if facts else True,
        stall_timeout_s=settings.stall_timeout,
        pid=os.getpid(),
        host=socket.gethostname(),
        versions={
            "proxy-oai-compat": VERSION,
            "python": platform.python_version(),
            **(facts.versions if facts else {}),
        },
        counts=True,
        proven=facts.proven if facts else {},
        died_with=lost_runs.told(),
    )


def heartbeat(
    gateway: int,
    gateways: int,
    state: WorkerState,
    slots: Slots,
    counting: list[str],
    progress: Progress,
) -> Heartbeat:
    """
    Args:
        gateway: the index of the one it is for; it hears of its own jobs by name.
        gateways: how many there are with a session.
        counting: the prompts that are counted for it.
    """
    return Heartbeat(
        state=state,
        loaded_fraction=progress.loaded_fraction,
        free_slots=slots.free(stream=False),
        free_stream_slots=slots.free(stream=True),
        jobs=slots.jobs_of(gateway, stream=False),
        streams=slots.jobs_of(gateway, stream=True),
        counting=counting,
        active=len(slots),
        gateways=max(1, gateways),
        steps=progress.steps,
        last_step_age_s=progress.age_s(),
        memory_bytes=int(progress.gauges.get("memory_bytes", 0)),
        gauges=progress.gauges,
    )

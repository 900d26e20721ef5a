"""What a host's supervisor tells an engine process to keep to."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from worker.engine.options import MemoryShare
from worker.settings import GIB, Settings

VARIABLE = "WORKER_MEMORY_SHARE"


def environment(share: MemoryShare) -> dict[str, str]:
    """What the engine process is started with."""
    return {VARIABLE: msgspec.json.encode(share).decode()}


def told(settings: Settings, environment: Mapping[str, str] = os.environ) -> MemoryShare:
    """In an engine process: what its host has told, else what its operator has."""
    text = environment.get(VARIABLE)
    if text:
        return msgspec.json.decode(text, type=MemoryShare)
    if settings.memory_budget_gib is None:
        return MemoryShare()
    return MemoryShare(int(settings.memory_budget_gib * GIB), explicit=True)

"""The worker's slots: which jobs hold one, and for whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Held:
    gateway: int
    stream: bool


class Slots:
    """Used by the link thread alone."""

    def __init__(self, non_streaming: int, streams: int) -> None:
        self._limits = {False: non_streaming, True: streams}
        self._held: dict[str, Held] = {}

    def take(self, job_id: str, gateway: int, *, stream: bool) -> bool:
        """Give the job a slot; False when none is free, or the job has one: nobody can take over
        another gateway's job by its name."""
        if job_id in self._held or self.free(stream=stream) <= 0:
            return False
        self._held[job_id] = Held(gateway, stream)
        return True

    def release(self, job_id: str) -> Held | None:
        return self._held.pop(job_id, None)

    def holder(self, job_id: str) -> int | None:
        """The gateway whose job it is, or None when it is not (any more) here."""
        held = self._held.get(job_id)
        return None if held is None else held.gateway

    def free(self, *, stream: bool) -> int:
        used = sum(1 for held in self._held.values() if held.stream == stream)
        return self._limits[stream] - used

    def jobs_of(self, gateway: int, *, stream: bool | None = None) -> list[str]:
        return [
            job_id
            for job_id, held in self._held.items()
            if held.gateway == gateway and stream in (None, held.stream)
        ]

    def __len__(self) -> int:
        return len(self._held)

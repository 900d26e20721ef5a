"""What the engine says, token by token, to one request or to many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.benchmarks.in_process.engines import Ours, Request
from shared.messages import Delta, Done, Failed


@dataclass
class Said:
    """`logprobs` are of the tokens, where the request asked for any."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def answers(ours: Ours, asked: Sequence[Request]) -> list[Said]:
    """Return the answers to requests that come at once, in their order."""
    said = {request.job.id: Said() for request in asked}
    for request in asked:
        ours.engine.submit(request.job, request.images)
    left = len(asked)
    while left:
        for event in ours.turn():
            if isinstance(event, Failed):
                raise RuntimeError(f"{event.job}: {event.message}")
            if isinstance(event, Delta):
                said[event.job].tokens += event.tokens
                said[event.job].logprobs += [entry.logprob for entry in event.logprobs]
            left -= isinstance(event, Done)
    return [said[request.job.id] for request in asked]


def common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many tokens two answers share before they part."""
    pairs = enumerate(zip(one, other, strict=False))
    length = min(len(one), len(other))
    return next((index for index, (a, b) in pairs if a != b), length)

"""What requests, and the operator, ask of the core."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.generation import GenerationRequest
from gateway.status import ModelAction
from shared.messages import Job, WorkerAction


class Reserve(msgspec.Struct, frozen=True):
    """A request has come: it takes a slot, or a place in the queue.

    `only_counts`: its prompt's tokens are to be counted, for which it needs neither.
    """

    job_id: str
    request_id: str
    request: GenerationRequest
    only_counts: bool = False


class Prepare(msgspec.Struct, frozen=True):
    """The job is prepared, its images are there: a worker may have it."""

    job_id: str
    job: Job
    images: Sequence[bytes] = ()


class Abandon(msgspec.Struct, frozen=True):
    """The client has gone. Harmless when the job is over."""

    job_id: str


class Order(msgspec.Struct, frozen=True):
    """The operator's, for the worker of that name. No effect: no such worker is connected."""

    worker: str
    action: WorkerAction


class OrderModel(msgspec.Struct, frozen=True):
    """The operator's, for a model that a host lists, under any of its names."""

    model: str
    action: ModelAction


Act = Reserve | Prepare | Abandon | Order | OrderModel

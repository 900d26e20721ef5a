"""The words of dispatch's own errors: what happened and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gateway.dispatch.core.catalogues.hosts import Hosts
from gateway.dispatch.core.catalogues.refusals import not_ready
from gateway.dispatch.core.jobs import JobRecord
from gateway.dispatch.core.sessions import Registry
from gateway.errors import (
    ApiError,
    BodyTooLarge,
    ContextExceeded,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    NoWorker,
    OutOfMemory,
    WorkerFailed,
    listed,
)
from shared.messages import Failed, JobMessage
from shared.wire import packed_bytes

NO_WORKER_RETRY_S = 5.0
MANY_COUNTS_RETRY_S = 1.0

PARAMETERS = {
    "messages": "messages",
    "prompt": "prompt",
    "prompt_ids": "prompt",
    "tool_policy": "tools",
    "response_format": "response_format",
    "template_options": "chat_template_kwargs",
    "stop": "stop",
}
"""A job's fields that may be long, and what OpenAI's chat completions call them."""


def not_served(
    model: str | None, registry: Registry, hosts: Hosts, now: float = math.inf
) -> ApiError:
    """Why nobody can take a request for `model` (None: for any model) now."""
    loading = registry.loading(model)
    if loading is not None:
        done = loading.heartbeat.loaded_fraction if loading.heartbeat else 0.0
        return NoWorker(
            f"The model is loading ({done:.0%} done); try again in a moment.",
            retry_after_s=NO_WORKER_RETRY_S,
            code="loading",
        )
    kept = [option for option in hosts.keeping(model or "") if option[1].status != "loaded"]
    refused = not_ready(kept)
    if refused is not None:
        return refused
    if model and (registry.draining(model) or registry.is_missed(model, now)):
        return NoWorker(
            f"The model {model!r} is not served at the moment: its worker takes no more requests, "
            "or has left a short while ago; try again in a moment.",
            retry_after_s=NO_WORKER_RETRY_S,
        )
    available = sorted({*hosts.pools, *(n for h in registry.available_hellos() for n in h.models)})
    if model and available:
        return NotFound(
            f"The model {model!r} is not served here. Available: {listed(available)} "
            "(a worker's --served-model-name gives it other names).",
            param="model",
            code="model_not_found",
        )
    return NoWorker(
        "No worker is connected, so there is no model to answer. Start one (python -m worker), "
        "or read in its log why it does not come up.",
        retry_after_s=NO_WORKER_RETRY_S,
    )


def several_served(pools: Iterable[str]) -> ApiError:
    return InvalidRequest(
        f"Several models are served; name one of: {listed(sorted(pools))}.", param="model"
    )


def not_in_a_catalogue(model: str) -> ApiError:
    return InvalidRequest(
        f"The model {model!r} is served by a worker that has no other one, so it cannot be "
        "unloaded: stop that worker instead.",
        param="model",
    )


def deadline_passed(record: JobRecord, limit_s: float) -> ApiError:
    if record.only_counts:
        words = f"The prompt's tokens were not counted within {limit_s:g} s."
    elif not record.active:
        words = f"The request waited in the queue for {limit_s:g} s without getting a slot; "
        words += "try again later, or ask for a longer --queue-timeout or more workers."
    elif record.stream and record.at.last_token_at is not None:
        words = f"No token came for {limit_s:g} s; the stream was ended."
    else:
        words = f"The request was not done within {limit_s:g} s (it was {record.phase.value}); "
        words += "a smaller max_tokens, or a longer --queue-timeout at the gateway, would help."
    return DeadlinePassed(words)


def workers_lost(record: JobRecord) -> ApiError:
    return WorkerFailed(
        f"{record.deaths} workers failed while they ran this request; "
        f"it is not tried again. Request id: {record.request_id}."
    )


def not_finished(record: JobRecord) -> ApiError:
    if record.only_counts:
        return WorkerFailed(
            f"{record.fruitless_runs} workers failed while they counted this prompt's tokens; "
            f"it is not tried again. Request id: {record.request_id}."
        )
    return WorkerFailed(
        f"The workers did not finish this request in {record.runs} attempts, or answered with more "
        f"than an answer can have. Request id: {record.request_id}."
    )


def job_too_large(record: JobRecord) -> ApiError:
    """Why the job cannot be sent, naming the parameter that takes the most room."""
    largest = max(PARAMETERS, key=lambda field: packed_bytes(getattr(record.job, field)))
    return BodyTooLarge(
        f"The request is larger than the {JobMessage.max_body_bytes} bytes that a worker takes, "
        "images not counted; send less text.",
        param=PARAMETERS[largest],
    )


def nobody_counts() -> ApiError:
    return NoWorker(
        "No worker of this model can count tokens: they are of an older version.",
        retry_after_s=NO_WORKER_RETRY_S,
    )


def worker_error(failure: Failed, request_id: str) -> ApiError:
    """The error a worker reported for one request, as its client is told."""
    if failure.code == "out_of_memory":
        return OutOfMemory(failure.message, retry_after_s=NO_WORKER_RETRY_S)
    if failure.code == "internal_error":
        return WorkerFailed(f"{failure.message} Request id: {request_id}.")
    if failure.prompt_tokens is not None and failure.context_tokens is not None:
        return ContextExceeded(
            failure.message,
            prompt_tokens=failure.prompt_tokens,
            context_tokens=failure.context_tokens,
            param=failure.param,
        )
    return InvalidRequest(failure.message, param=failure.param, code=failure.code)

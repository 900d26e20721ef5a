"""What can be asked for: the models, which can be loaded and unloaded, and each dialect's
parameters."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.common.parameters import (
    UNKNOWN_FIELDS,
    message_table,
    parameter_table,
    parse,
)
from gateway.api.common.render import json_response
from gateway.api.dialect import DIALECTS
from gateway.api.openapi import LOOKUP_ERRORS, describes_body, errors
from gateway.errors import DeadlinePassed, NotFound, listed
from gateway.http.body import read_json_body
from gateway.http.connection import UntilGone
from gateway.http.keys import Keys, check_operator
from gateway.status import ModelAction, ServedModel, Status

MAX_ORDER_BYTES = 4096
LOOK_EVERY_S = 0.05
LOAD_ENDS_WITHIN_S = 1.0
"""An order to load is given up at the time limit, with its reason: so much longer is waited for
that."""


class ModelOrder(BaseModel):
    """`wait`: answer when it is done; else at once."""

    model_config = ConfigDict(
        extra="forbid",
        protected_namespaces=(),
        json_schema_extra={"examples": [{"model": "demo", "wait": True}]},
    )
    model: str = Field(min_length=1)
    wait: bool = False


def model_routes(status: Status, keys: Keys, timeout_s: float) -> APIRouter:
    """
    Args:
        timeout_s: the longest that an order waits to be carried out.
    """
    router = APIRouter(tags=["models"], responses=errors(*LOOKUP_ERRORS))

    @router.get("/v1/models", response_model=None)
    async def list_models() -> Response:
        """List the ids that requests may name."""
        models = [model_content(model) for model in status.models()]
        ids: list[str | None] = [model["id"] for model in models] or [None]
        # Anthropic's clients read pages, of which this is the only one.
        page = {"has_more": False, "first_id": ids[0], "last_id": ids[-1]}
        return json_response({"object": "list", "data": models, **page})

    @router.get("/v1/models/{model_id:path}", response_model=None, responses=errors(NotFound))
    async def show_model(model_id: str) -> Response:
        """Show one model."""
        return _shown(status, model_id)

    @router.post("/v1/models/load", **describes_body(ModelOrder))
    async def load_model(request: Request) -> Response:
        """Load a model of a worker's catalogue, as a request for it would."""
        order = await _order(request, keys)
        status.order_model(order.model, "load")
        if order.wait:
            limit_s = timeout_s + LOAD_ENDS_WITHIN_S
            await _until_done(request, status, order.model, "load", limit_s)
            failure = status.load_failure(order.model)
            if failure is not None:
                raise failure
        return _shown(status, order.model)

    @router.post("/v1/models/unload", **describes_body(ModelOrder))
    async def unload_model(request: Request) -> Response:
        """Unload a model, pinned or not, when what runs is finished."""
        order = await _order(request, keys)
        status.order_model(order.model, "unload")
        if order.wait:
            await _until_done(request, status, order.model, "unload", timeout_s)
        return _shown(status, order.model)

    @router.get("/v1/capabilities", response_model=None)
    async def show_capabilities() -> Response:
        """Show every request parameter and every field of a message that is ignored or refused;
        what is unknown is refused among parameters and ignored in messages."""
        tables = {dialect.name: parameter_table(dialect.body) for dialect in DIALECTS}
        fields = {dialect.name: message_table(dialect.body) for dialect in DIALECTS}
        return json_response(
            {
                "object": "capabilities",
                "unknown_fields": UNKNOWN_FIELDS,
                "message_fields": {name: table for name, table in fields.items() if table},
                **tables,
            }
        )

    return router


async def _order(request: Request, keys: Keys) -> ModelOrder:
    check_operator(request, keys)
    return parse(ModelOrder, await read_json_body(request, MAX_ORDER_BYTES))


async def _until_done(
    request: Request, status: Status, model: str, action: ModelAction, timeout_s: float
) -> None:
    """Wait until the order is fulfilled or given up.

    Raises:
        DeadlinePassed: it has taken too long; the order stands.
        ClientGone: nobody waits for it any more; the order stands.
    """
    with UntilGone(request.scope):
        try:
            async with asyncio.timeout(timeout_s):
                while status.is_pending(model, action):  # noqa: ASYNC110 - the core calls nobody
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise DeadlinePassed(
                f"The order to {action} {model!r} was not carried out within {timeout_s:g} s; it "
                "still stands."
            ) from None


def _shown(status: Status, name: str) -> Response:
    model = status.model(name)
    if model is None:
        names = [model.id for model in status.models()]
        raise NotFound(
            f"There is no model {name!r}; there are: {listed(names) or 'none'}.",
            param="model",
            code="model_not_found",
        )
    return json_response(model_content(model))


def _download(model: ServedModel) -> dict[str, int | None] | None:
    """How many bytes of its files are here; None: it is not being fetched."""
    if model.status != "downloading":
        return None
    return {"done_bytes": model.done_bytes, "total_bytes": model.total_bytes or None}


def model_content(model: ServedModel) -> dict[str, Any]:
    """Return OpenAI's model object, with what a client of ours may want to know beside it, under
    the names that vLLM (`max_model_len`), OpenRouter (`input_modalities`) and Anthropic (`type`,
    `display_name`, `created_at`) have for it."""
    return {
        "id": model.id,
        "object": "model",
        "type": "model",
        "display_name": model.id,
        "created": model.created,
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat(),
        "owned_by": "local",
        "context_length": model.context_tokens,
        "max_model_len": model.context_tokens,
        "input_modalities": ["text", "image"] if model.vision else ["text"],
        "capabilities": {"vision": model.vision},
        "proven": dict(model.proven),
        "status": {
            "value": model.status,
            "fraction": model.fraction,
            "error": model.error or None,
        },
        "draining": model.draining,
        "download": _download(model),
        "memory_bytes": model.memory_bytes,
        "pinned": model.pinned,
        "idle_s": model.idle_s,
        "workers": list(model.workers),
        "aliases": list(model.aliases),
    }

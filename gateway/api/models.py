"""What can be asked for: the models, and each dialect's parameters."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from gateway.api.common.parameters import UNKNOWN_FIELDS, message_table, parameter_table
from gateway.api.common.render import json_response
from gateway.api.dialect import DIALECTS
from gateway.api.openapi import LOOKUP_ERRORS, errors
from gateway.errors import NotFound
from gateway.status import ServedModel, Status


def model_routes(status: Status) -> APIRouter:
    router = APIRouter(tags=["models"], responses=errors(*LOOKUP_ERRORS))

    @router.get("/v1/models", response_model=None)
    async def list_models() -> Response:
        """List the ids that requests may name."""
        models = [model_content(model) for model in status.models()]
        return json_response({"object": "list", "data": models})

    @router.get("/v1/models/{model_id:path}", response_model=None, responses=errors(NotFound))
    async def show_model(model_id: str) -> Response:
        """Show one model."""
        models = {model.id: model for model in status.models()}
        if model_id not in models:
            raise NotFound(
                f"There is no model {model_id!r}; there are: {', '.join(models) or 'none'}.",
                param="model",
                code="model_not_found",
            )
        return json_response(model_content(models[model_id]))

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


def model_content(model: ServedModel) -> dict[str, Any]:
    """Return OpenAI's model object, with what a client of ours may want to know beside it, under
    the names that vLLM (`max_model_len`) and OpenRouter (`input_modalities`) have for it."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "local",
        "context_length": model.context_tokens,
        "max_model_len": model.context_tokens,
        "input_modalities": ["text", "image"] if model.vision else ["text"],
        "capabilities": {"vision": model.vision},
        "proven": dict(model.proven),
    }

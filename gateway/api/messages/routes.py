"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.common.parameters import parse
from gateway.api.common.render import json_response
from gateway.api.endpoint import Generator
from gateway.api.messages.models import CountTokensRequest, MessagesRequest
from gateway.api.messages.render import MessagesRenderer
from gateway.api.messages.translate import to_counting, to_generation
from gateway.api.openapi import describes_body
from gateway.http.body import read_json_body
from gateway.http.middleware import tenant_of


def messages_routes(generator: Generator) -> APIRouter:
    router = APIRouter(tags=["messages"])
    settings = generator.settings

    @router.post("/v1/messages", **describes_body(MessagesRequest))
    async def create_message(request: Request) -> Response:
        """Answer a conversation, as Anthropic's clients speak."""
        body = parse(MessagesRequest, await read_json_body(request, settings.max_body_bytes))
        generation = to_generation(
            body,
            tenant=tenant_of(request),
            max_images=settings.max_images,
            vision_only=settings.vision_only,
        )
        return generator.respond(request, generation, MessagesRenderer())

    @router.post("/v1/messages/count_tokens", **describes_body(CountTokensRequest))
    async def count_tokens(request: Request) -> Response:
        """Count the tokens of a prompt, images included, as the worker would see it."""
        body = parse(CountTokensRequest, await read_json_body(request, settings.max_body_bytes))
        counting = to_counting(
            body,
            tenant=tenant_of(request),
            max_images=settings.max_images,
            vision_only=settings.vision_only,
        )
        return json_response({"input_tokens": await generator.count_tokens(request, counting)})

    return router

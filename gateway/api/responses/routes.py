"""`POST /v1/responses`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.common.parameters import parse
from gateway.api.endpoint import Generator
from gateway.api.openapi import describes_body
from gateway.api.responses.models import ResponsesRequest
from gateway.api.responses.render import ResponsesRenderer
from gateway.api.responses.translate import to_generation
from gateway.http.body import read_json_body
from gateway.http.middleware import tenant_of


def responses_routes(generator: Generator) -> APIRouter:
    router = APIRouter(tags=["responses"])
    settings = generator.settings

    @router.post("/v1/responses", **describes_body(ResponsesRequest))
    async def create_response(request: Request) -> Response:
        """Answer a conversation, as OpenAI's newer clients speak."""
        body = parse(ResponsesRequest, await read_json_body(request, settings.max_body_bytes))
        generation = to_generation(
            body,
            tenant=tenant_of(request),
            max_images=settings.max_images,
            vision_only=settings.vision_only,
        )
        return generator.respond(request, generation, ResponsesRenderer(body))

    return router

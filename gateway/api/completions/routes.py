"""`POST /v1/completions`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.common.parameters import parse
from gateway.api.completions.models import CompletionRequest
from gateway.api.completions.render import CompletionRenderer
from gateway.api.endpoint import Generator
from gateway.api.openapi import describes_body
from gateway.http.body import read_json_body
from gateway.http.middleware import tenant_of


def completion_routes(generator: Generator) -> APIRouter:
    router = APIRouter(tags=["completions"])
    settings = generator.settings

    @router.post("/v1/completions", **describes_body(CompletionRequest))
    async def create_completion(request: Request) -> Response:
        """Continue a text."""
        body = parse(CompletionRequest, await read_json_body(request, settings.max_body_bytes))
        generation = body.to_generation(tenant=tenant_of(request), vision_only=settings.vision_only)
        renderer = CompletionRenderer(
            choices=generation.choices,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
            with_logprobs=generation.logprobs is not None,
        )
        return generator.respond(request, generation, renderer)

    return router

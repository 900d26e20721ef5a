"""`POST /v1/chat/completions`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.chat.models import ChatCompletionRequest
from gateway.api.chat.render import ChatRenderer
from gateway.api.chat.translate import to_generation
from gateway.api.common.parameters import parse
from gateway.api.endpoint import Generator
from gateway.api.openapi import describes_body
from gateway.http.body import read_json_body
from gateway.http.middleware import tenant_of


def chat_routes(generator: Generator) -> APIRouter:
    router = APIRouter(tags=["chat"])
    settings = generator.settings

    @router.post("/v1/chat/completions", **describes_body(ChatCompletionRequest))
    async def create_chat_completion(request: Request) -> Response:
        """Answer a conversation about text and images."""
        body = parse(ChatCompletionRequest, await read_json_body(request, settings.max_body_bytes))
        generation = to_generation(
            body,
            tenant=tenant_of(request),
            max_images=settings.max_images,
            vision_only=settings.vision_only,
        )
        renderer = ChatRenderer(
            choices=generation.choices,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
            with_logprobs=generation.logprobs is not None,
        )
        return generator.respond(request, generation, renderer)

    return router

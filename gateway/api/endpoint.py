"""The one endpoint of every request for text, whatever dialect it comes in.

parse    the body, into the one record that all dialects share    here
admit    a slot, a place in the queue, or a refusal               `run.py`
run      images fetched and checked, then the job handed over     `run.py`
render   its events, as one answer or as a stream                 `response.py`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.common.conversation import ImageRules
from gateway.api.common.parameters import parse
from gateway.api.common.render import json_response
from gateway.api.dialect import DIALECTS, Dialect
from gateway.api.openapi import describes_body
from gateway.api.response import GenerationResponse
from gateway.api.run import Runner
from gateway.http.body import read_json_body
from gateway.http.fast_path import Endpoint
from gateway.http.keys import tenant_of
from gateway.settings import Settings


def endpoints(runner: Runner, settings: Settings) -> dict[str, Endpoint]:
    """Return the endpoint of each dialect by its path."""
    return {dialect.path: endpoint(dialect, runner, settings) for dialect in DIALECTS}


def endpoint(dialect: Dialect[Any], runner: Runner, settings: Settings) -> Endpoint:
    """Return what parses a request and gives it the response that does the rest."""
    rules = ImageRules(settings.max_images, settings.vision_only)

    async def respond(request: Request) -> Response:
        body = parse(dialect.body, await read_json_body(request, settings.max_body_bytes))
        generation = dialect.translate(body, rules, tenant_of(request))
        waited_s = request.scope["state"].get("waited_s")
        if waited_s:
            generation = msgspec.structs.replace(generation, waited_s=waited_s)
        renderer = dialect.renderer and dialect.renderer(body, generation)
        # It has the texts of data URLs, of which nothing may be left once they are decoded.
        del body
        if dialect.count is not None:
            return json_response(dialect.count(await runner.count(generation, request.scope)))
        assert renderer is not None
        return GenerationResponse(runner, settings, generation, renderer)

    return respond


def dialect_routes(by_path: Mapping[str, Endpoint]) -> APIRouter:
    """Return the routes that `/openapi.json` describes and that refuse other methods than POST.

    Args:
        by_path: the endpoints; `gateway/http/fast_path.py` calls them past these routes.
    """
    router = APIRouter()
    for dialect in sorted(DIALECTS, key=lambda dialect: dialect.path):
        router.add_api_route(
            dialect.path,
            by_path[dialect.path],
            methods=["POST"],
            name=dialect.operation,
            description=dialect.description,
            tags=[dialect.name.partition(".")[0]],
            **describes_body(dialect.body),
        )
    return router

"""`GET /v1/workers` and `POST /v1/workers/{id}`: see, drain, resume and restart workers."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.common.parameters import parse
from gateway.api.common.render import json_response
from gateway.api.openapi import LOOKUP_ERRORS, describes_body, errors
from gateway.errors import NotFound
from gateway.http.body import read_json_body
from gateway.http.keys import Keys, check_operator
from gateway.status import Status

MAX_ORDER_BYTES = 1024


class WorkerOrder(BaseModel):
    """`drain`: finish what runs, take nothing new. `restart`: drain, then a fresh engine."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"action": "drain"}]})
    action: Literal["drain", "resume", "restart"]


def worker_routes(status: Status, keys: Keys) -> APIRouter:
    router = APIRouter(tags=["workers"], responses=errors(*LOOKUP_ERRORS))

    @router.get("/v1/workers", response_model=None)
    async def list_workers() -> Response:
        """List the workers and how they are."""
        return json_response({"object": "list", "data": status.readiness().workers})

    @router.post("/v1/workers/{worker_id}", **describes_body(WorkerOrder))
    async def order_worker(worker_id: str, request: Request) -> Response:
        """Tell a worker to drain, to resume or to restart its engine."""
        check_operator(request, keys)
        order = parse(WorkerOrder, await read_json_body(request, MAX_ORDER_BYTES))
        if not status.order(worker_id, order.action):
            ids = [worker["id"] for worker in status.readiness().workers]
            raise NotFound(
                f"There is no worker {worker_id!r} here; there are: {', '.join(ids) or 'none'}.",
                param="worker_id",
            )
        return json_response({"id": worker_id, "action": order.action})

    return router

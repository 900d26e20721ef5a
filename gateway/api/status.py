"""How the gateway is: health, readiness, statistics, metrics."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.api.common.render import json_response
from gateway.api.openapi import LOOKUP_ERRORS, errors
from gateway.errors import NoWorker
from gateway.status import Status

NOT_READY_RETRY_S = 5.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def status_routes(status: Status) -> APIRouter:
    router = APIRouter(tags=["status"], responses=errors(*LOOKUP_ERRORS))

    @router.get("/health", response_model=None)
    async def show_health() -> Response:
        """Tell that the gateway lives."""
        return json_response({"status": "ok"})

    @router.get("/ready", response_model=None, responses=errors(NoWorker))
    async def show_readiness(request: Request) -> Response:
        """Tell whether a worker can take requests."""
        readiness = status.readiness()
        if not readiness.ready:
            raise NoWorker(
                readiness.reason,
                retry_after_s=NOT_READY_RETRY_S,
                code=readiness.code or None,
            )
        return json_response({"status": "ready", "workers": readiness.workers})

    @router.get("/v1/queue/stats", response_model=None)
    async def show_queue_stats() -> Response:
        """Show what waits, what runs and how it went so far."""
        return json_response(status.queue_stats())

    @router.get("/metrics", response_class=PlainTextResponse, response_model=None)
    async def show_metrics() -> Response:
        """Show all metrics in Prometheus' text format."""
        return Response(status.metrics_text(), media_type=METRICS_TYPE)

    return router

"""The baseline: the least that FastAPI can do for such a request, under the same server.

It parses the body and sends bytes that a real gateway has sent; streams go out event by event.

    python -m scripts.benchmarks.servers.bare PORT WHOLE_FILE STREAMED_FILE
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse


def bare_app(whole: bytes, events: list[bytes]) -> FastAPI:
    app = FastAPI()

    async def stream() -> AsyncIterator[bytes]:
        for event in events:
            yield event

    @app.post("/v1/chat/completions")
    async def create(request: Request) -> Response:
        body = json.loads(await request.body())
        if body.get("stream"):
            return StreamingResponse(stream(), media_type="text/event-stream")
        return Response(whole, media_type="application/json")

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def split_events(streamed: bytes) -> list[bytes]:
    """Return the events of a whole stream, each with its blank line."""
    return [event + b"\n\n" for event in streamed.split(b"\n\n") if event]


def main(port: str, whole: str, streamed: str) -> None:
    app = bare_app(Path(whole).read_bytes(), split_events(Path(streamed).read_bytes()))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

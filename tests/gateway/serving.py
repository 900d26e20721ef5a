"""The gateway's HTTP side on a free port, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import uvicorn

from gateway.app import create_app
from gateway.dispatch.stats.metrics import Metrics
from gateway.http.keys import Keys
from gateway.http.listening import listen
from gateway.main import http_config
from gateway.settings import Settings
from tests.gateway.fake_dispatch import FakeDispatch, FakeStatus, Script


class ServerOfTests(uvicorn.Server):
    """Leaves the test runner's signal handlers alone, and stops without ticks and grace."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self.lifespan.shutdown()


class Gateway:
    """A running gateway and the fakes behind it."""

    def __init__(self, settings: Settings, dispatch: FakeDispatch, port: int) -> None:
        self.settings = settings
        self.dispatch = dispatch
        self.status = FakeStatus()
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False)

    async def chat(self, **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json=question(**fields))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


def question(**fields: Any) -> dict[str, Any]:
    """A valid request, with `fields` on top."""
    return {"messages": [{"role": "user", "content": "Hello?"}], **fields}


@contextlib.asynccontextmanager
async def gateway(script: Script | None = None, **settings: Any) -> AsyncIterator[Gateway]:
    (listener,) = listen("127.0.0.1", 0)
    chosen = Settings(host="127.0.0.1", **settings)
    running = Gateway(chosen, FakeDispatch(script), listener.getsockname()[1])
    app = create_app(chosen, running.dispatch, running.status, Metrics(), Keys(chosen))
    server = ServerOfTests(http_config(app, chosen))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield running
    finally:
        await running.client.aclose()
        server.stop.set()
        await serving

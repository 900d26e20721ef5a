"""A gateway from its start to its end: settings, logs, the worker port, the HTTP port; then serve
until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from types import FrameType
from typing import NoReturn

import uvicorn
import uvloop
import zmq
from starlette.types import ASGIApp

from gateway.app import create_app
from gateway.dispatch.link import Link
from gateway.http.keys import Keys
from gateway.http.listening import BACKLOG, listen, url
from gateway.http.protocol import bounded_protocol
from gateway.process import allow_connections, spare_the_collector
from gateway.settings import Settings
from shared import environment_file, logs
from shared.launcher import Launcher
from shared.settings import SettingsError, as_set, load
from shared.standard_streams import keep_open

log = logging.getLogger("gateway")

LOOK_EVERY_S = 0.5


def main() -> None:
    keep_open()
    launcher = Launcher()
    file = environment_file.enter()
    settings = load(Settings, "GATEWAY", called=file.called)
    logs.configure(settings.log_level, settings.log_format, "gateway")
    # Its info lines ("Started server process", "Waiting for ...") repeat ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        keys = Keys(settings)
        listeners = listen(settings.host, settings.port)
    except SettingsError as error:
        words = as_set(str(error), Settings, "GATEWAY", sys.argv[1:], os.environ, file.called)
        refuse(words)
    settings = replace(settings, max_connections=allow_connections(settings.max_connections))
    for number in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn stops in order at the first one, and then raises it again.
        signal.signal(number, leave)
    try:
        uvloop.run(serve(settings, keys, listeners, launcher))
    except zmq.ZMQError as error:
        refuse(f"--bind: cannot listen for workers on {', '.join(settings.bind)}: {error}")


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """End with 0: being told to stop is no failure."""
    raise SystemExit(0)


def refuse(reason: str) -> NoReturn:
    print(f"python -m gateway: {reason}", file=sys.stderr)
    raise SystemExit(2)


async def serve(
    settings: Settings, keys: Keys, listeners: list[socket.socket], launcher: Launcher
) -> None:
    """Run until SIGINT or SIGTERM. Raises zmq.ZMQError when the worker port is taken."""
    link = Link(settings)
    await link.start()
    metrics = link.statistics.metrics
    app = create_app(settings, link, link.status, metrics, keys, on_stop=link.stop)
    loop = asyncio.get_running_loop()
    asked = threading.Event()
    threading.Thread(target=read_keys_again, args=(asked, keys, link, loop), daemon=True).start()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    announce(settings, keys, listeners, link.endpoints)
    spare_the_collector()
    watch = asyncio.create_task(stop_after(launcher))
    await uvicorn.Server(http_config(app, settings)).serve(sockets=listeners)
    watch.cancel()


def read_keys_again(
    asked: threading.Event, keys: Keys, link: Link, loop: asyncio.AbstractEventLoop
) -> None:
    """Whenever it is asked for, for ever. Not on the event loop: a file of keys may be a pipe whose
    writer takes its time."""
    while asked.wait():
        asked.clear()
        try:
            keys.read()
        except SettingsError as error:
            log.warning("SIGHUP: the keys stay as they were: %s", error)
        else:
            loop.call_soon_threadsafe(link.read_authorized_workers)
            log.info("SIGHUP: the keys were read again")


async def stop_after(launcher: Launcher) -> None:
    """Stop this process, as on SIGTERM, when what started it has ended."""
    while not launcher.is_gone:  # noqa: ASYNC110 - nothing tells of a parent's death
        await asyncio.sleep(LOOK_EVERY_S)
    log.warning("what started the gateway has ended, so it stops")
    signal.raise_signal(signal.SIGTERM)


def http_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded_protocol(
            settings.max_connections,
            settings.header_timeout,
            settings.body_timeout,
            settings.write_timeout,
        ),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.idle_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )


def announce(
    settings: Settings, keys: Keys, listeners: list[socket.socket], endpoints: list[str]
) -> None:
    http = ", ".join(map(url, listeners))
    log.info(
        "gateway listening",
        extra={"fields": {"http": http, "workers": ", ".join(endpoints)}},
    )
    if settings.beyond_loopback and not keys.api:
        log.warning(
            "everybody who can reach %s may use this server: set --api-key, "
            "or --host 127.0.0.1 to serve this machine only",
            http,
        )

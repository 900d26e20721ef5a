"""Nobody reads what the tiers log: their clocks go on."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator

from tests.processes import Service, Tier, serving

LONG = "x" * 128
"""A request id, which stands in two log lines of every request."""


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that has no room left."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    while select.select([], [write_end], [], 0)[1]:
        os.write(write_end, b"\n" * select.PIPE_BUF)
    os.set_blocking(write_end, True)
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def with_unread_logs(service: Service, write_end: int) -> None:
    """Put a gateway and a worker whose logs go to the pipe in the place of the gateway."""
    service.gateway.stop()
    port = service.url.rpartition(":")[2]
    flags = ("--host", "127.0.0.1", "--port", port, "--bind", service.worker_endpoint)
    service.gateway = Tier("gateway", *flags, "--log-level", "debug", stderr=write_end)
    worker = ("--gateway", service.worker_endpoint, *service.worker_flags, "--log-level", "debug")
    service.workers.append(Tier("worker", *worker, stderr=write_end))
    service.await_ready(1)


def test_a_full_pipe_stops_neither_tier() -> None:
    with full_pipe() as (_, write_end), serving(workers=0) as service:
        with_unread_logs(service, write_end)
        service.client.headers["x-request-id"] = LONG
        for _ in range(20):
            assert service.script(tokens=2).status_code == 200
        metrics = service.client.get(f"{service.url}/metrics").text
        assert "gateway_lost_log_lines_total 0.0" in metrics
        for tier in (*service.workers, service.gateway):
            assert tier.stop() == 0, tier.command


def test_what_is_written_late_is_whole() -> None:
    with full_pipe() as (read_end, write_end), serving(workers=0) as service:
        with_unread_logs(service, write_end)
        assert service.script(tokens=2).status_code == 200
        os.set_blocking(read_end, False)
        said = b""
        while b'"gateway listening"' not in said or b'"request ' not in said:
            select.select([read_end], [], [], 10)
            said += os.read(read_end, 65536)
    assert all(line.startswith(b"{") for line in said.splitlines()[:-1] if line)

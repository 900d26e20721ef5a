"""A worker at the far end of a slow link: it is used, late, and nobody gives it up."""

from __future__ import annotations

import asyncio
import time

from tests.faults.slow_link import slow_link
from tests.faults.test_fleet import WORKER, assert_drained, load
from tests.processes import serving
from tests.waiting import await_condition

DELAY_S = 0.1
BYTES_PER_S = 500_000
ANSWERS = 64


async def test_a_slow_link_only_slows() -> None:
    with serving(workers=0, worker_flags=WORKER) as service:
        gateway_port = int(service.worker_endpoint.rpartition(":")[2])
        with slow_link(gateway_port, DELAY_S, BYTES_PER_S) as link:
            service.worker_endpoint = f"tcp://127.0.0.1:{link.port}"
            worker = service.add_worker()
            service.await_ready(1)
            asked = time.monotonic()
            assert service.script(tokens=1).status_code == 200
            assert time.monotonic() - asked >= 2 * DELAY_S
            async with load(service.url, seed=6) as answered:
                await asyncio.to_thread(
                    await_condition, lambda: answered[0] >= ANSWERS, f"{ANSWERS} answers"
                )
            assert_drained(service)
            assert worker.process.poll() is None
            assert "lease" not in service.gateway.output()

"""A client that stops reading a very long stream: the gateway does not grow, and then cancels."""

from __future__ import annotations

import json
import socket
import time

from tests.hostile.strangers import memory_bytes
from tests.processes import answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition

WRITE_TIMEOUT_S = 2.0
GROWTH_BYTES = 64 << 20


def test_a_reader_that_stops_costs_little_and_not_for_long() -> None:
    flags = ("--write-timeout", str(WRITE_TIMEOUT_S), "--log-level", "debug")
    with serving(workers=1, gateway_flags=flags) as service:
        pid = service.gateway.process.pid
        assert answer_text(service.script(tokens=3)) == words(3)
        before = memory_bytes(pid)
        body = json.dumps(scripted(stream=True, tokens=200_000, burst=64, delay_s=0.0005)).encode()
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            assert client.recv(1) == b"H"
        began, most = time.monotonic(), before

        def all_cancelled() -> bool:
            nonlocal most
            most = max(most, memory_bytes(pid))
            stats = service.get("/v1/queue/stats")
            held = sum(worker["active"] for worker in stats["workers"])
            return bool(stats["queue_stats"]["active_requests"] == 0 and held == 0)

        await_condition(all_cancelled, "the jobs are cancelled", 20)
        assert time.monotonic() - began < WRITE_TIMEOUT_S + 5
        assert most - before < GROWTH_BYTES
        assert service.get("/v1/queue/stats")["metrics"]["error_count"] == 0
        assert answer_text(service.script(tokens=3)) == words(3)
        for client in clients:
            client.close()

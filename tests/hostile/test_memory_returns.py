"""Large requests take memory while they run, and leave none of it behind."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest

from tests.gateway.images.pictures import data_url, drawn
from tests.processes import Service, serving
from tests.scripted import scripted
from tests.waiting import await_condition

MIB = 1 << 20
AT_ONCE = 12
ROUNDS = 6
MOST_LEFT_MIB = 40
"""Allocators keep a little of what they have had; a body here has 13 MiB."""


def resident_mib(service: Service) -> float:
    status = Path(f"/proc/{service.gateway.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_large_pictures_leave_no_memory_behind() -> None:
    picture = data_url(drawn("PNG", (1800, 1800), compress_level=0))
    body = scripted(tokens=3)
    text = {"type": "text", "text": body["messages"][0]["content"]}
    image = {"type": "image_url", "image_url": {"url": picture}}
    body["messages"][0]["content"] = [image, text]
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with serving() as service:
        assert service.script(tokens=3).status_code == 200
        before = resident_mib(service)
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            for _ in range(ROUNDS):
                asking = (
                    client.post("/v1/chat/completions", content=data, headers=headers)
                    for _ in range(AT_ONCE)
                )
                assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
        await asyncio.to_thread(
            await_condition,
            lambda: resident_mib(service) < before + MOST_LEFT_MIB,
            f"no more than {MOST_LEFT_MIB} MiB above {before:.0f} MiB",
            30,
        )

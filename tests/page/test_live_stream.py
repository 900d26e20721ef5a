"""The page's files and its stream of figures, without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

import httpx
import pytest

from gateway.errors import QueueFull
from gateway.page.files import STATIC, read_files
from gateway.page.live import MOST_LISTENERS, LiveFeed, NoFigures
from gateway.status import Readiness
from tests.gateway.serving import Gateway, gateway
from tests.processes import serving

STREAM = "/v1/status/stream"


class StatusOfOne:
    """One worker that makes `tokens` tokens."""

    tokens = 0

    def queue_stats(self) -> dict[str, Any]:
        worker = {"id": "a", "pid": 1, "tokens": self.tokens}
        return {"queue_stats": {"active_requests": 2}, "metrics": {}, "workers": [worker]}

    def readiness(self) -> Readiness:
        return Readiness(ready=True)

    def models(self) -> list[Any]:
        return []

    def recent_requests(self) -> list[dict[str, Any]]:
        return []


def test_rates_are_differences_and_never_negative() -> None:
    status = StatusOfOne()
    feed = LiveFeed(status)  # type: ignore[arg-type]
    for now, tokens in ((1.0, 100), (3.0, 150), (4.0, 0)):
        status.tokens = tokens
        feed.sample(now)
    points = json.loads(feed.history().split(b"data: ")[1])["points"]
    assert [point["rate"] for point in points] == [0, 25, 0]


async def test_one_failure_does_not_end_the_figures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.page.live.SAMPLE_EVERY_S", 0)

    class FailsTwice(StatusOfOne):
        calls = 0

        def queue_stats(self) -> dict[str, Any]:
            self.calls += 1
            if self.calls in (2, 3):
                raise KeyError("pid")
            return super().queue_stats()

    status = FailsTwice()
    feed = LiveFeed(status)  # type: ignore[arg-type]
    running = asyncio.create_task(feed.run())
    async with asyncio.timeout(5):
        while status.calls < 5:
            with contextlib.suppress(NoFigures):
                await feed.next_sample()
    running.cancel()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_who_looks_on_is_told_when_there_are_no_figures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.page.live.SAMPLE_EVERY_S", 0.01)

    def fails() -> dict[str, Any]:
        raise KeyError("pid")

    async with gateway() as g:
        works = g.status.queue_stats
        async with g.client.stream("GET", STREAM) as stream:
            pieces = stream.aiter_text()
            assert (await anext(pieces)).startswith("event: history")
            monkeypatch.setattr(g.status, "queue_stats", fails)
            async with asyncio.timeout(5):
                async for _ in pieces:
                    pass
        for _ in range(2):
            refused = await g.client.get(STREAM)
            assert refused.status_code == 500
            assert "log" in refused.json()["error"]["message"]
        assert len(caplog.records) == 1
        monkeypatch.setattr(g.status, "queue_stats", works)
        await until_there_are_figures(g)


async def until_there_are_figures(g: Gateway) -> None:
    async with asyncio.timeout(5):
        while True:
            async with g.client.stream("GET", STREAM) as stream:
                if stream.status_code == 200:
                    return
            await asyncio.sleep(0.01)


def test_listeners_are_bounded() -> None:
    feed = LiveFeed(StatusOfOne())  # type: ignore[arg-type]
    places = [feed.listening() for _ in range(MOST_LISTENERS + 1)]
    for place in places[:-1]:
        place.__enter__()
    with pytest.raises(QueueFull):
        places[-1].__enter__()
    places[0].__exit__(None, None, None)
    with feed.listening():
        pass


def test_the_page_names_no_other_host() -> None:
    for name in read_files():
        if not name.startswith("vendor/") and not name.endswith(".svg"):
            assert not re.search(r"https?://", (STATIC / name).read_text()), name


def test_files_are_kept_and_asked_about_again() -> None:
    with serving(workers=1) as service:
        first = service.client.get(service.url + "/")
        assert "default-src 'none'" in first.headers["content-security-policy"]
        tag = {"If-None-Match": first.headers["etag"]}
        assert service.client.get(service.url + "/", headers=tag).status_code == 304
        assert service.client.get(service.url + "/page/../app.py").status_code == 404
        assert service.client.get(service.url + "/page/none.js").status_code == 404


def test_a_stopping_gateway_ends_the_stream_in_order_and_at_once() -> None:
    with serving(gateway_flags=("--shutdown-timeout", "3600")) as service:
        with httpx.stream("GET", service.url + "/v1/status/stream", timeout=20) as stream:
            pieces = stream.iter_text()
            assert next(pieces).startswith("event: history")
            service.gateway.process.terminate()
            for _ in pieces:
                pass
        service.gateway.process.wait(10)
        assert "error" not in service.gateway.output()

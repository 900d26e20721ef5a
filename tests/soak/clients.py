"""The clients of the soak: each does one thing after the other, good, bad and hostile by turns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from typing import Any

import httpx

from tests.gateway.images.pictures import data_url, drawn, jpeg_of_scans, png_claiming
from tests.scripted import words

CHAT = "/v1/chat/completions"
PAUSE_S = 0.02
BUSY = (429, 503)

BAD_BODIES: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b'{"messages": 5}',
    b"[" * 100_000,
    b'{"messages": [{"role": "user", "content": "x"}], "prediction": {"a": [%s0]}}'
    % (b"[]," * 300_000),
    b'{"messages": [{"role": "user", "content": "x"}], "temperature": 9}',
]

BAD_PICTURES = [
    "data:image/png;base64,!!!",
    data_url(b"no image"),
    data_url(png_claiming(50_000, 50_000)),
    data_url(jpeg_of_scans(1000)),
    "http://127.0.0.1:1/",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
]


class Clients:
    """
    Args:
        outcomes: counts "kind: what came".
        faults: what should not have come, in words.
    """

    def __init__(self, http: httpx.AsyncClient, outcomes: Counter[str], faults: list[str]) -> None:
        self._http = http
        self._outcomes = outcomes
        self._faults = faults
        self._picture = data_url(drawn("PNG", (64, 64)))
        self._huge = data_url(drawn("PNG", (1800, 1800), compress_level=0))

    async def behave(self, seed: int, over: asyncio.Event) -> None:
        rng = random.Random(seed)
        while not over.is_set():
            kind = rng.choice(KINDS)
            try:
                outcome = await getattr(self, kind)(rng)
            except (httpx.TransportError, ConnectionError, TimeoutError) as error:
                outcome = type(error).__name__
                if kind not in RUDE:
                    self._faults.append(f"{kind}: {error!r}")
            self._outcomes[f"{kind}: {outcome}"] += 1
            await asyncio.sleep(PAUSE_S * rng.random())

    async def good(self, rng: random.Random) -> str:
        tokens = rng.randrange(1, 60)
        response = await self._http.post(CHAT, json=asking(tokens))
        return self._judged("good", response, tokens)

    async def streamed(self, rng: random.Random) -> str:
        tokens = rng.randrange(1, 60)
        response = await self._http.post(CHAT, json=asking(tokens, stream=True))
        if response.status_code == 200 and not response.text.endswith("data: [DONE]\n\n"):
            self._faults.append("streamed: a stream without its end")
        return self._judged("streamed", response)

    async def picture(self, rng: random.Random) -> str:
        body = asking(5, picture=self._picture)
        return self._judged("picture", await self._http.post(CHAT, json=body), 5)

    async def huge(self, rng: random.Random) -> str:
        body = asking(5, picture=self._huge)
        return self._judged("huge", await self._http.post(CHAT, json=body), 5)

    async def bad(self, rng: random.Random) -> str:
        if rng.random() < 0.5:
            body = rng.choice(BAD_BODIES)
        else:
            body = json.dumps(asking(1, picture=rng.choice(BAD_PICTURES))).encode()
        response = await self._http.post(
            CHAT, content=body, headers={"content-type": "application/json"}
        )
        if response.status_code not in (400, *BUSY):
            self._faults.append(f"bad: {response.status_code} {response.text[:200]}")
        return str(response.status_code)

    async def cancelled(self, rng: random.Random) -> str:
        """Leaves at a random moment, whatever comes."""
        body = asking(1000, stream=rng.random() < 0.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.random() * 0.3):
                await self._http.post(CHAT, json=body)
        return "left"

    async def unread(self, rng: random.Random) -> str:
        """Asks for a long stream and reads none of it."""
        writer = await self._send_head(asking(20_000, stream=True, burst=64, delay_s=0))
        await asyncio.sleep(rng.random())
        writer.transport.abort()
        return "left"

    async def slow(self, rng: random.Random) -> str:
        """Sends its body drop by drop and gives up in the middle."""
        writer = await self._send_head(asking(1), hold_back=20)
        for _ in range(5):
            await asyncio.sleep(rng.random() * 0.1)
            writer.write(b" ")
        writer.close()
        return "left"

    async def _send_head(self, body: dict[str, Any], hold_back: int = 0) -> asyncio.StreamWriter:
        address = self._http.base_url
        _, writer = await asyncio.open_connection(address.host, address.port)
        content = json.dumps(body).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content[: len(content) - hold_back])
        return writer

    def _judged(self, kind: str, response: httpx.Response, tokens: int | None = None) -> str:
        status = response.status_code
        if status not in (200, *BUSY):
            self._faults.append(f"{kind}: {status} {response.text[:200]}")
        elif status == 200 and tokens is not None:
            text = response.json()["choices"][0]["message"]["content"]
            if text != words(tokens) and text.startswith("w"):
                self._faults.append(f"{kind}: a wrong answer")
        return str(status)


KINDS = ("good", "streamed", "picture", "huge", "bad", "cancelled", "unread", "slow")
RUDE = frozenset({"cancelled", "unread", "slow"})


def asking(
    tokens: int,
    *,
    stream: bool = False,
    picture: str = "",
    burst: int = 1,
    delay_s: float = 0.005,
) -> dict[str, Any]:
    """A request that the scripted engine plays; a real model answers it as it likes."""
    script = json.dumps({"tokens": tokens, "burst": burst, "delay_s": delay_s})
    parts: list[dict[str, Any]] = [{"type": "text", "text": f"script: {script}"}]
    if picture:
        parts.insert(0, {"type": "image_url", "image_url": {"url": picture}})
    return {
        "messages": [{"role": "user", "content": parts}],
        "stream": stream,
        "max_tokens": max(tokens, 1),
    }

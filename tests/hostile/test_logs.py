"""What must never stand in a log, looked for in the logs of both tiers at their most talkative."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import sys

import pytest

from shared.logs import JsonFormatter, TextFormatter
from tests.gateway.images.pictures import data_url, drawn
from tests.processes import serving

KEY = "key-" + secrets.token_hex(8)
WRONG_KEY = "wrong-" + secrets.token_hex(8)
PROMPT = "prompt" + secrets.token_hex(8)
ANSWER = "w0 w1 w2"
DEBUG = ("--log-level", "debug")


def test_no_prompt_picture_or_key_is_logged() -> None:
    picture = drawn("PNG")
    worker = ("--engine", "scripted", *DEBUG)
    with serving(workers=0, gateway_flags=(*DEBUG, "--api-key", KEY)) as service:
        service.client.headers["authorization"] = f"Bearer {KEY}"
        service.worker_flags = worker
        service.add_worker()
        service.await_ready(1)
        parts = [
            {"type": "text", "text": PROMPT},
            {"type": "image_url", "image_url": {"url": data_url(picture)}},
        ]
        good = {"messages": [{"role": "user", "content": parts}], "user": PROMPT}
        assert service.ask(good).status_code == 200
        for script in (PROMPT, '{"tokens": 3, "fault": "fail"}', '{"fault": "crash"}'):
            content = f"{PROMPT} script: {script}"
            service.ask({"messages": [{"role": "user", "content": content}]})
        service.await_ready(1)
        bad = {"type": "image_url", "image_url": {"url": f"http://{PROMPT}.invalid/{PROMPT}"}}
        service.ask({"messages": [{"role": "user", "content": [bad]}]})
        service.ask({"messages": PROMPT, PROMPT: 1})
        service.client.get(f"{service.url}/{PROMPT}?key={KEY}")
        wrong = {"authorization": f"Bearer {WRONG_KEY}", "x-request-id": f"id {PROMPT}"}
        assert service.client.get(f"{service.url}/v1/models", headers=wrong).status_code == 401
        logs = service.gateway.output() + "".join(tier.output() for tier in service.workers)
    assert '"type":"vision"' in logs
    image = base64.b64encode(picture).decode()[:40]
    for secret in (KEY, WRONG_KEY, PROMPT, ANSWER, image):
        assert secret not in logs, [line for line in logs.splitlines() if secret in line][:3]


@pytest.mark.parametrize("hostile", ["a\nERROR forged", "\x1b[2J", "a\u202eb", "\x00", "a\rb"])
def test_no_line_can_be_forged(hostile: str) -> None:
    try:
        raise ValueError(hostile)
    except ValueError:
        error = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "%s", (hostile,), error)
    record.fields = {"id": hostile}
    line = JsonFormatter(hostile).format(record)
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["message"] == hostile
    text = TextFormatter().format(record)
    first, *others = text.split("\n")
    assert first.isprintable()
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert "forged" not in "".join(line for line in others if not line.startswith("    "))
